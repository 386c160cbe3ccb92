//! Disks that are full or closed, and folders with traps in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Receiver, Scene, eventually, finish, zssp};

/// A shell that may mount without anybody else seeing it, as root or in a namespace of its own; nothing if this system
/// has no such thing for us.
fn mounting_shell() -> Option<Command> {
    [&["--mount"][..], &["--mount", "--map-root-user"]].into_iter().find_map(|flags| {
        let shell = || {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c"]);
            command
        };
        let mounts =
            shell().arg("mount -t tmpfs none /tmp").output().is_ok_and(|output| output.status.success());
        mounts.then(shell)
    })
}

/// A receiver whose folder, or part of it, is a file system of its own with the given options.
fn receive_on(scene: &Scene, mount: &Path, options: &str) -> Option<Receiver> {
    let Some(mut shell) = mounting_shell() else {
        eprintln!("skipped: this system lets us mount nothing, not even in a namespace");
        return None;
    };
    let receive = scene.receive_command(&["--allow", &scene.alice]);
    shell
        .arg(r#"mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@""#)
        .arg("sh")
        .arg(options)
        .arg(mount);
    shell.arg(receive.get_program()).args(receive.get_args());
    Some(Receiver::start(&mut shell))
}

/// What such a receiver sees in its folder.
fn seen_by(receiver: &Receiver, scene: &Scene) -> Vec<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root", receiver.id()));
    let inside = scene.inbox();
    let folder = root.join(inside.strip_prefix("/").unwrap());
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into()).collect()
}

#[test]
fn a_full_disk_ends_the_transfer_with_the_reason_on_both_sides() {
    let scene = Scene::new();
    fs::create_dir(scene.path("top")).unwrap();
    fs::write(scene.path("fits"), vec![1; 1 << 20]).unwrap();
    fs::write(scene.path("top/1 does not"), vec![2; 30 << 20]).unwrap();
    fs::write(scene.path("top/2 comes later"), vec![3; 30 << 20]).unwrap();
    let Some(receiver) = receive_on(&scene, &scene.inbox(), "size=8m") else { return };
    let sent = finish(&mut scene.send(&receiver, &[&scene.path("fits")]));
    assert!(sent.success(), "{sent:#?}");
    let sent = finish(&mut scene.send(&receiver, &[&scene.path("top")]));
    sent.failed_with(1, "the receiver's disk is full");
    let left =
        fs::read_dir(format!("/proc/{}/root{}", receiver.id(), scene.inbox().join("top").display())).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| name.starts_with(".zssp-partial-")), "no half file has a name: {left:?}");
    assert!(!left.is_empty(), "what arrived is kept");
    assert!(seen_by(&receiver, &scene).contains(&"fits".into()), "and what was whole before");
    let received = receiver.stop();
    assert!(received.stderr.contains("disk is full"), "{received:#?}");
}

#[test]
fn a_full_disk_under_the_ratchets_is_named_and_passes() {
    let scene = Scene::new();
    let Some(mut shell) = mounting_shell() else {
        eprintln!("skipped: this system lets us mount nothing, not even in a namespace");
        return;
    };
    let serve = zssp(["serve", "--listen", "127.0.0.1:0", "--allow", &scene.alice, "--key"]);
    let log = scene.path("log");
    shell.arg(r#"mount -t tmpfs -o size=200k none "$1" && exec 2> "$2" && shift 2 && exec "$@""#).arg("sh");
    shell.arg(scene.inbox()).arg(&log);
    shell.arg(serve.get_program()).args(serve.get_args()).arg(scene.path("bob.key"));
    let server = Receiver::start(shell.arg("--ratchets").arg(scene.inbox().join("ratchets")));
    let to = format!("{}@{}", scene.bob, server.address);
    let ping = |timeout: &str| {
        let mut ping = zssp(["ping", "--count", "1", "--timeout", timeout, "--to", &to, "--key"]);
        finish(ping.arg(scene.path("alice.key")))
    };
    assert!(ping("10").success());
    let filler = PathBuf::from(format!("/proc/{}/root{}", server.id(), scene.inbox().join("full").display()));
    fs::write(&filler, vec![1; 1 << 20]).unwrap_err();
    ping("1").failed_with(4, "no answer");
    // She keeps no ratchet. That is told also where the disk is too full to let her in.
    let loss = "without the secret that the two had in common";
    let said = || fs::read_to_string(&log).unwrap();
    eventually("word of the lost ratchet", || said().contains(loss).then_some(()));
    fs::remove_file(&filler).unwrap();
    assert!(ping("30").success());
    assert!(server.stop().success());
    let said = said();
    let full = said.lines().find(|line| line.contains("is its disk full?"));
    assert!(full.is_some_and(|line| line.contains(&scene.alice[..12])), "{said}");
    assert!(said.contains("did not get as far as connecting"), "{said}");
    assert_eq!(said.matches(loss).count(), 1, "not again in a minute: {said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_noticed_before_anybody_connects() {
    let scene = Scene::new();
    let Some(mut shell) = mounting_shell() else {
        eprintln!("skipped: this system lets us mount nothing, not even in a namespace");
        return;
    };
    let receive = scene.receive_command(&["--allow", &scene.alice]);
    shell.arg(r#"mount -t tmpfs -o ro none "$1" && shift && exec "$@""#).arg("sh").arg(scene.inbox());
    finish(shell.arg(receive.get_program()).args(receive.get_args())).failed_with(5, "cannot be written to");

    let missing = scene.path("no such folder");
    let mut receive = zssp(["receive", "--listen", "127.0.0.1:0", "--allow", "any", "--key"]);
    receive.arg(scene.path("bob.key")).arg("--dir");
    finish(receive.arg(&missing)).failed_with(
        5,
        "no such folder` cannot be opened: No such file or directory (os error 2). Make it with: mkdir ",
    );
}

#[test]
fn what_cannot_be_written_is_refused_and_the_rest_arrives() {
    let scene = Scene::new();
    for folder in ["closed", "open"] {
        fs::create_dir(scene.path(folder)).unwrap();
        fs::write(scene.path(folder).join("small"), "1").unwrap();
        fs::write(scene.path(folder).join("large"), vec![2; 1 << 20]).unwrap();
    }
    let closed = scene.inbox().join("closed");
    fs::create_dir(&closed).unwrap();
    let Some(receiver) = receive_on(&scene, &closed, "ro") else { return };
    let sent = finish(&mut scene.send(&receiver, &[&scene.path("closed"), &scene.path("open")]));
    sent.failed_with(1, "closed/small: the receiver may not write there");
    assert!(sent.stderr.contains("closed/large"), "{sent:#?}");
    assert!(sent.stdout.contains("sent 2 files"), "{sent:#?}");
    let mut seen = seen_by(&receiver, &scene);
    seen.sort();
    assert_eq!(seen, ["closed", "open"].map(PathBuf::from));
    assert!(receiver.stop().stderr.contains("Read-only file system"));
}

#[test]
fn nothing_gets_past_a_file_or_a_link_that_is_in_the_way() {
    let scene = Scene::new();
    for folder in ["file", "link", "free"] {
        fs::create_dir_all(scene.path(folder).join("sub")).unwrap();
        fs::write(scene.path(folder).join("sub/x"), "x").unwrap();
    }
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(scene.inbox().join("file"), "in the way").unwrap();
    std::os::unix::fs::symlink(&outside, scene.inbox().join("link")).unwrap();

    let receiver = scene.receive(&["--once", "--overwrite"]);
    let paths = ["file", "link", "free"].map(|name| scene.path(name));
    let sent = finish(&mut scene.send(&receiver, &paths.each_ref().map(PathBuf::as_path)));
    receiver.finish().failed_with(1, "in the way");
    sent.failed_with(1, "file: something at the receiver is in the way: a file where a folder should be");
    assert!(
        sent.stderr.contains("link: something at the receiver is in the way: a symbolic link"),
        "{sent:#?}"
    );
    assert!(sent.stderr.contains("link/sub: its folder was refused"), "{sent:#?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read(scene.inbox().join("file")).unwrap(), b"in the way");
    assert_eq!(fs::read(scene.inbox().join("free/sub/x")).unwrap(), b"x");
}
