//! Key files, and the command line itself.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::harness::{Scene, finish, keygen, zssp};

#[test]
fn a_key_is_made_once_and_shown_again() {
    let scene = Scene::new();
    let path = scene.path("new.key");
    let made = finish(zssp(["keygen"]).arg(&path));
    assert!(made.success(), "{made:?}");
    let public = made.stdout.trim();
    assert_eq!(made.stdout.lines().count(), 1);
    assert!(public.len() == 93 && public.chars().all(|c| c.is_ascii_alphanumeric()), "{public}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(finish(zssp(["pubkey"]).arg(&path)).stdout.trim(), public);

    let before = fs::read(&path).unwrap();
    finish(zssp(["keygen"]).arg(&path)).failed_with(5, "never overwritten");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_key_file_with_a_flaw_gets_an_error_that_names_it() {
    let scene = Scene::new();
    let good = fs::read_to_string(scene.path("bob.key")).unwrap();
    let flawed = |name: &str, text: &str, words: &str| {
        let path = scene.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for command in [vec!["pubkey"], vec!["receive", "--allow", "any", "--dir", ".", "--key"]] {
            let result = finish(zssp(command).arg(&path));
            result.failed_with(5, words);
            assert!(result.stderr.contains(name), "the error names the file: {result:?}");
        }
    };
    let position = good.trim_end().len() - 30;
    let other = if good.as_bytes()[position] == b'a' { "b" } else { "a" };
    let mut corrupt = good.clone();
    corrupt.replace_range(position..=position, other);
    flawed("corrupt", &corrupt, "checksum");
    flawed("truncated", &good[..good.len() - 40], "cut off");
    flawed("empty", "", "empty");
    flawed("later", &good.replace("-v1:", "-v3:"), "newer zssp");
    flawed("public", &scene.bob, "public key");
    flawed("other", "hello", "not a key file");

    fs::set_permissions(scene.path("bob.key"), fs::Permissions::from_mode(0o644)).unwrap();
    finish(zssp(["pubkey"]).arg(scene.path("bob.key"))).failed_with(5, "chmod 600");
    finish(zssp(["pubkey"]).arg(scene.path("missing"))).failed_with(5, "zssp keygen");
    finish(zssp(["keygen"]).arg(scene.path("no/such/folder"))).failed_with(5, "folder does not exist");
}

#[test]
fn a_public_key_with_a_flaw_is_a_mistake_of_the_command_line() {
    let scene = Scene::new();
    let key = scene.path("alice.key");
    let send = |to: &str| finish(zssp(["send", "--to", to, "--key"]).arg(&key).arg(&key));
    let damaged = format!("{}{}", &scene.bob[..92], if scene.bob.ends_with('a') { 'b' } else { 'a' });
    send(&format!("{damaged}@127.0.0.1")).failed_with(2, "checksum");
    send(&format!("{}@127.0.0.1", &scene.bob[..80])).failed_with(2, "copy the whole line");
    send("127.0.0.1").failed_with(2, "PUBKEY@HOST");
    send(&format!("{}@::1", scene.bob)).failed_with(2, "brackets");
}

#[test]
fn help_shows_examples_and_exit_codes_and_output_can_be_plain() {
    for command in
        ["keygen", "pubkey", "send", "receive", "ping", "bench", "serve", "peers", "password", "demo"]
    {
        let help = finish(zssp([command, "--help"]).env("NO_COLOR", "1"));
        assert!(help.success());
        assert!(
            help.stdout.contains("Examples:") && help.stdout.contains(&format!("zssp {command}")),
            "{help:?}"
        );
        assert!(!help.stdout.contains('\x1b'));
    }
    let help = finish(&mut zssp(["--help"]));
    assert!(help.stdout.contains("130"), "exit codes are explained: {help:?}");
    assert!(finish(&mut zssp(["--version"])).stdout.starts_with("zssp "));
    finish(&mut zssp(["send"])).failed_with(2, "--key");
    finish(&mut zssp(["no-such-command"])).failed_with(2, "no-such-command");
}

#[test]
fn a_path_that_cannot_be_sent_is_noticed_before_anybody_is_bothered() {
    let scene = Scene::new();
    let to = format!("{}@127.0.0.1:9", scene.bob);
    let send = |paths: &[&Path]| {
        finish(zssp(["send", "--to", &to, "--key"]).arg(scene.path("alice.key")).args(paths))
    };
    send(&[&scene.path("missing")]).failed_with(5, "No such file");
    send(&[Path::new("/dev/null")]).failed_with(5, "neither a file nor a folder");
    fs::create_dir(scene.path("sub")).unwrap();
    keygen(&scene.path("sub/alice.key"));
    send(&[&scene.path("alice.key"), &scene.path("sub/alice.key")]).failed_with(2, "same name");
    let twice = scene.path("alice.key");
    send(&[&twice, &twice]).failed_with(2, "is given twice");
    // A name cannot write on the terminal.
    let odd = scene.path("two\nlines \x1b[31m");
    fs::write(&odd, "").unwrap();
    send(&[&odd]).failed_with(5, r"two\nlines \u{1b}[31m` cannot be sent");
}

#[test]
fn the_demonstration_runs_on_a_machine_with_nothing_configured() {
    for size in ["0", "5", "16MiB"] {
        let demo = finish(zssp(["demo", "--size", size]).env_clear());
        assert!(demo.success(), "{demo:#?}");
        for words in ["handshake", "MLKEM1024", "verified with BLAKE3", "datagrams", "Next:"] {
            assert!(demo.stdout.contains(words), "no `{words}` in {demo:#?}");
        }
    }
    assert_eq!(finish(&mut zssp(["demo", "--size", "1MiB", "--quiet"])).stdout, "");
}
