//! What two peers remember of each other.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use crate::harness::{Finished, Receiver, Scene, finish, keygen, zssp};

fn ratchets(scene: &Scene, whose: &str) -> PathBuf {
    scene.path(format!("{whose}.ratchets"))
}

/// An operator's command about a file of ratchets.
fn peers(scene: &Scene, whose: &str, args: &[&str]) -> Finished {
    finish(zssp(["peers"]).args(args).arg("--ratchets").arg(ratchets(scene, whose)))
}

/// What is remembered: a peer, and how far its ratchet is.
fn turns(scene: &Scene, whose: &str, peer: &str) -> Option<u64> {
    let listed = peers(scene, whose, &["list"]);
    assert!(listed.success() && listed.stdout.lines().count() <= 1, "{listed:#?}");
    let (key, turns) = listed.stdout.trim().split_once(' ')?;
    assert_eq!(key, peer);
    turns.parse().ok()
}

fn as_bob(scene: &Scene, command: &str) -> Command {
    as_bob_for(&scene.alice, scene, command)
}

/// With somebody welcome.
fn as_bob_for(guest: &str, scene: &Scene, command: &str) -> Command {
    let mut command = zssp([command, "--listen", "127.0.0.1:0", "--allow", guest, "--key"]);
    command.arg(scene.path("bob.key")).arg("--ratchets").arg(ratchets(scene, "bob"));
    command
}

fn as_alice(scene: &Scene, command: &str, to: &Receiver) -> Command {
    let mut command = zssp([command, "--to", &format!("{}@{}", scene.bob, to.address), "--key"]);
    command.arg(scene.path("alice.key")).arg("--ratchets").arg(ratchets(scene, "alice"));
    command
}

/// What both ends said of a ping that was answered.
fn ping(scene: &Scene) -> [Finished; 2] {
    let server = Receiver::start(&mut as_bob(scene, "serve"));
    let pinged = finish(as_alice(scene, "ping", &server).args(["--count", "1"]));
    let served = server.stop();
    assert!(pinged.success() && served.success(), "{pinged:#?} {served:#?}");
    [pinged, served]
}

/// Gives both a one-time password to begin with.
fn preset_both(scene: &Scene) {
    let otp = password(scene);
    for (whose, peer) in [("alice", &scene.bob), ("bob", &scene.alice)] {
        let preset = peers(scene, whose, &["preset", peer, "--password-file", otp.to_str().unwrap()]);
        assert!(preset.success(), "{preset:#?}");
        assert_eq!(turns(scene, whose, peer), Some(1));
    }
}

/// A new one-time password, in a file.
fn password(scene: &Scene) -> PathBuf {
    let made = finish(&mut zssp(["password"]));
    assert!(made.success() && made.stdout.starts_with("zssp-otp1-"), "{made:#?}");
    let path = scene.path("otp");
    fs::write(&path, &made.stdout).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn peers_begin_with_a_password_and_go_on_with_what_they_have_in_common() {
    let scene = Scene::new();
    preset_both(&scene);
    let otp = scene.path("otp");
    let otp = otp.to_str().unwrap();
    let both = || [turns(&scene, "alice", &scene.bob), turns(&scene, "bob", &scene.alice)];
    ping(&scene);
    assert_eq!(both(), [Some(2); 2], "the password was the beginning");
    ping(&scene);
    assert_eq!(both(), [Some(3); 2]);

    // One purpose follows another: both know the peer by its key.
    let receiver = Receiver::start(as_bob(&scene, "receive").args(["--once", "--dir"]).arg(scene.inbox()));
    let sent = finish(as_alice(&scene, "send", &receiver).arg(otp));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    assert_eq!(both(), [Some(4); 2]);

    peers(&scene, "bob", &["preset", &scene.alice, "--password-file", otp]).failed_with(1, "--replace");
    assert!(peers(&scene, "bob", &["forget", &scene.alice]).success());
    assert_eq!(turns(&scene, "bob", &scene.alice), None);
    peers(&scene, "bob", &["forget", &scene.alice]).failed_with(1, "nothing is remembered");
}

#[test]
fn a_file_of_ratchets_belongs_to_one_process() {
    let scene = Scene::new();
    let server = Receiver::start(&mut as_bob(&scene, "serve"));
    peers(&scene, "bob", &["list"]).failed_with(5, "another process has this ratchet store open");
    finish(&mut as_bob(&scene, "serve")).failed_with(5, "another process has this ratchet store open");
    assert!(server.stop().success());
    assert_eq!(turns(&scene, "bob", &scene.alice), None);
    peers(&scene, "nobody", &["list"]).failed_with(5, "nobody.ratchets");
    peers(&scene, "nobody", &["list"]).failed_with(5, "file of ratchets");
}

#[test]
fn a_password_file_with_a_flaw_is_refused() {
    let scene = Scene::new();
    let otp = password(&scene);
    let preset = || peers(&scene, "bob", &["preset", &scene.alice, "--password-file", otp.to_str().unwrap()]);
    fs::set_permissions(&otp, fs::Permissions::from_mode(0o644)).unwrap();
    preset().failed_with(5, "chmod 600");
    fs::set_permissions(&otp, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&otp, "a sentence that somebody made up").unwrap();
    preset().failed_with(5, "this is not a one-time password");
    fs::remove_file(&otp).unwrap();
    preset().failed_with(5, "there is no such file");
    assert!(!ratchets(&scene, "bob").exists(), "nothing was begun");
}

#[test]
fn a_ratchet_that_does_not_fit_is_told_on_both_sides() {
    const TOLD: &str = "without the secret that the two had in common";
    let scene = Scene::new();
    let told = |what: &str, expected: [bool; 2]| {
        let both = ping(&scene);
        let told = both.each_ref().map(|end| end.stderr.contains(TOLD));
        assert_eq!(told, expected, "{what}: {both:#?}");
        both
    };
    told("the first time", [false; 2]);
    told("the second", [false; 2]);

    // Somebody restores an old copy of a file.
    let (file, copy) = (ratchets(&scene, "alice"), scene.path("copy"));
    fs::copy(&file, &copy).unwrap();
    for _ in 0..2 {
        told("with what they have", [false; 2]);
    }
    fs::copy(&copy, &file).unwrap();
    let [pinged, served] = told("with an old file", [true; 2]);
    for (end, peer) in [(pinged, &scene.bob), (served, &scene.alice)] {
        assert!(end.stderr.contains("older copy") && end.stderr.contains("secret key"), "{end:#?}");
        assert!(end.stderr.contains(&format!("zssp peers preset {peer} --replace")), "{end:#?}");
    }
    told("after they began anew", [false; 2]);

    fs::remove_file(&file).unwrap();
    told("with no file", [false, true]);

    // One who keeps no ratchet is one who has lost it.
    let server = Receiver::start(&mut as_bob(&scene, "serve"));
    let to = format!("{}@{}", scene.bob, server.address);
    let pinged = finish(zssp(["ping", "--count", "1", "--to", &to, "--key"]).arg(scene.path("alice.key")));
    let served = server.stop();
    assert!(pinged.success() && !pinged.stderr.contains(TOLD), "{pinged:#?}");
    assert!(served.stderr.contains(TOLD), "{served:#?}");

    // Even where nothing but errors is to be said.
    fs::remove_file(ratchets(&scene, "bob")).unwrap();
    let server = Receiver::start(&mut as_bob(&scene, "serve"));
    let pinged = finish(as_alice(&scene, "ping", &server).args(["--count", "1", "--quiet"]));
    assert!(pinged.success() && pinged.stderr.contains(TOLD), "{pinged:#?}");
    assert!(server.stop().success());
}

const PERSISTENT: [&str; 2] = ["--policy", "persistent"];

#[test]
fn persistent_peers_begin_with_a_password_and_others_get_no_answer() {
    let scene = Scene::new();
    finish(as_bob(&scene, "serve").args(PERSISTENT)).failed_with(5, "there is no such file");
    assert!(!ratchets(&scene, "bob").exists(), "a mistyped name makes no file");
    preset_both(&scene);

    let server = Receiver::start(as_bob(&scene, "serve").args(PERSISTENT));
    let ping = |more: &[&str]| finish(as_alice(&scene, "ping", &server).args(["--count", "1"]).args(more));
    let pinged = ping(&PERSISTENT);
    assert!(pinged.success() && pinged.stderr.is_empty(), "{pinged:#?}");
    let pinged = ping(&["--policy", "opportunistic"]);
    assert!(pinged.success() && pinged.stderr.is_empty(), "the two policies interoperate: {pinged:#?}");

    fs::remove_file(ratchets(&scene, "alice")).unwrap();
    ping(&PERSISTENT).failed_with(5, "there is no such file");
    let pinged = ping(&["--timeout", "4"]);
    pinged.failed_with(4, "Does it run with `--policy persistent`?");
    assert!(pinged.stderr.contains(&format!("zssp peers preset {} --replace", scene.bob)), "{pinged:#?}");
    let served = server.stop();
    let knocks = served.stderr.matches("somebody has knocked and got no answer (").count();
    assert!(served.success() && knocks == 2, "at the first and at the end, not for each: {served:#?}");
    assert_eq!(served.stderr.matches("warning").count(), knocks, "{served:#?}");
    assert_eq!(turns(&scene, "bob", &scene.alice), Some(3), "nothing of it was forgotten");
}

#[test]
fn a_persistent_command_refuses_a_peer_that_has_lost_its_ratchet_and_says_what_to_do() {
    let scene = Scene::new();
    ping(&scene);
    fs::remove_file(ratchets(&scene, "bob")).unwrap();
    let advice = format!("zssp peers preset {} --replace", scene.bob);
    let before = turns(&scene, "alice", &scene.bob);

    let server = Receiver::start(&mut as_bob(&scene, "serve"));
    // At once: nobody waits for a time-out.
    let args = ["--timeout", "600", "--quiet"];
    let pinged = finish(as_alice(&scene, "ping", &server).args(args).args(PERSISTENT));
    pinged.failed_with(3, "error: zssp1");
    assert!(pinged.stderr.contains("was refused (--policy persistent)"), "{pinged:#?}");
    assert!(pinged.stderr.contains(&advice), "{pinged:#?}");
    server.stop();

    let receiver = Receiver::start(as_bob(&scene, "receive").arg("--dir").arg(scene.inbox()));
    let key = scene.path("alice.key");
    let sent =
        finish(as_alice(&scene, "send", &receiver).args(["--timeout", "600"]).args(PERSISTENT).arg(&key));
    sent.failed_with(3, &advice);
    assert!(receiver.stop().success());
    assert!(scene.arrived().is_empty());
    assert_eq!(turns(&scene, "alice", &scene.bob), before, "what this side remembers is kept");

    // What the other has in common with nobody is as good as nothing.
    let server = Receiver::start(as_bob(&scene, "serve").args(PERSISTENT));
    let served = server.stop();
    assert!(served.stderr.contains("will get no answer: nothing is remembered of it"), "{served:#?}");
    assert!(served.stderr.contains(&format!("zssp peers preset {} --replace", scene.alice)), "{served:#?}");
    peers(&scene, "alice", &["forget", &scene.bob]);
    let pinged = finish(
        zssp(["ping", "--to", &format!("{}@127.0.0.1:9", scene.bob), "--key"])
            .arg(&key)
            .args(PERSISTENT)
            .arg("--ratchets")
            .arg(ratchets(&scene, "alice")),
    );
    pinged.failed_with(5, "nothing is remembered of the peer");
}

#[test]
fn whoever_has_a_ratchet_is_told_that_it_is_not_let_in_and_comes_again() {
    let scene = Scene::new();
    preset_both(&scene);
    let carol = keygen(&scene.path("carol.key"));
    let server = Receiver::start(as_bob_for(&carol, &scene, "serve").args(PERSISTENT));
    let advice = format!("--allow {}", scene.alice);
    // At once: nobody waits for a time-out.
    finish(as_alice(&scene, "ping", &server).args(["--timeout", "600"])).failed_with(3, &advice);
    let served = server.stop();
    assert!(served.success() && served.stderr.contains(&advice), "{served:#?}");

    // An attempt that was refused holds up the next, though not for longer than a command waits by itself.
    let server = Receiver::start(as_bob(&scene, "serve").args(PERSISTENT));
    let pinged = finish(as_alice(&scene, "ping", &server).args(["--count", "1"]).args(PERSISTENT));
    assert!(pinged.success() && pinged.stderr.is_empty(), "{pinged:#?}");
    assert!(server.stop().success());
    assert_eq!(turns(&scene, "bob", &scene.alice), Some(2));
}

#[test]
fn whoever_has_a_ratchet_is_told_that_it_wants_the_other_command() {
    let scene = Scene::new();
    preset_both(&scene);
    let receive = &mut as_bob_for("any", &scene, "receive");
    let receiver = Receiver::start(receive.args(PERSISTENT).arg("--dir").arg(scene.inbox()));
    let pinged = finish(as_alice(&scene, "ping", &receiver).args(["--timeout", "600"]));
    pinged.failed_with(3, "is not `zssp serve`");
    let received = receiver.stop();
    assert!(received.success() && received.stderr.contains("which is for `zssp serve`"), "{received:#?}");
    let welcome = format!("warning: every peer that is remembered in {}", ratchets(&scene, "bob").display());
    assert!(received.stderr.contains(&welcome), "{received:#?}");
}
