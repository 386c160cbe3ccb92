//! Transfers that are cut off in the middle of a file, and gone on with.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::harness::{Finished, Receiver, Running, Scene, finish, zssp};

/// More than is on its way before a test has cut it off.
const SIZE: u64 = 128 << 20;

/// A file that is quickly made and like no other: holes with random numbers between them.
fn large(scene: &Scene, seed: u64) -> PathBuf {
    let path = scene.path("large");
    let file = fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut number = seed;
    for place in (0..SIZE).step_by(1 << 16) {
        number = next(number);
        file.write_all_at(&number.to_be_bytes(), place + number % 65_000).unwrap();
    }
    path
}

fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

fn seed() -> u64 {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    seed
}

/// Where this side says that it goes on.
#[track_caller]
fn resumed_at(finished: &Finished) -> u64 {
    let (_, rest) =
        finished.stderr.split_once("large: going on at byte ").unwrap_or_else(|| panic!("{finished:#?}"));
    rest.split_once(' ').unwrap().0.parse().unwrap()
}

#[track_caller]
fn assert_arrived(scene: &Scene, path: &Path) {
    assert_eq!(scene.arrived(), ["large"]);
    assert!(fs::read(scene.inbox().join("large")).unwrap() == fs::read(path).unwrap(), "the contents differ");
}

#[test]
fn a_killed_sender_started_again_sends_only_the_rest() {
    let scene = Scene::new();
    let mut random = seed();
    let path = large(&scene, random);
    let receiver = scene.receive(&["--timeout", "20"]);
    let mut before = 0;
    for round in 1..=3 {
        random = next(random);
        let sender = Running::start(&mut scene.send(&receiver, &[&path]));
        scene.wait_for_bytes(before + 1 + random % (20 << 20));
        sender.signal("KILL");
        let killed = sender.finish();
        if round > 1 {
            assert!(resumed_at(&killed) >= before, "{killed:#?}");
        }
        before = scene.partial().expect("it was cut off before its end");
    }
    let sent = finish(&mut scene.send(&receiver, &[&path]));
    assert!(sent.success(), "{sent:#?}");
    let kept = resumed_at(&sent);
    assert!(kept >= before && kept < SIZE, "{kept} of {before}");
    assert!(sent.stdout.contains("had arrived before"), "{sent:#?}");
    assert_arrived(&scene, &path);
    let received = receiver.stop();
    assert!(received.success() && received.stdout.contains("received 1 file"), "{received:#?}");
}

#[test]
fn a_receiver_that_was_killed_and_comes_back_is_found_by_the_sender_itself() {
    let scene = Scene::new();
    let mut random = seed();
    let path = large(&scene, random);
    let first = scene.receive(&[]);
    let address = first.address.clone();
    let mut command = zssp(["send", "--timeout", "6", "--to", &format!("{}@{address}", scene.bob), "--key"]);
    let sender = Running::start(command.arg(scene.path("alice.key")).arg(&path));
    random = next(random);
    scene.wait_for_bytes(1 + random % (40 << 20));
    first.signal("KILL");
    first.finish();
    let before = scene.partial().expect("it was cut off before its end");

    let second = Receiver::start(&mut scene.receive_at(&address, &["--allow", &scene.alice]));
    let sent = sender.finish();
    assert!(sent.success(), "{sent:#?}");
    assert_eq!(resumed_at(&sent), before, "all that had arrived, and nothing but that: {sent:#?}");
    assert!(sent.stderr.contains("fell silent; connecting again"), "{sent:#?}");
    assert_arrived(&scene, &path);
    assert!(second.stop().success());
}

#[test]
fn a_file_that_changed_in_the_meantime_is_sent_anew() {
    let scene = Scene::new();
    let path = large(&scene, seed());
    let receiver = scene.receive(&["--once"]);
    let sender = Running::start(&mut scene.send(&receiver, &[&path]));
    scene.wait_for_bytes(10 << 20);
    sender.signal("KILL");
    sender.finish();
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"changed", 100).unwrap();

    let sent = finish(&mut scene.send(&receiver, &[&path]));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    for side in [&sent, &received] {
        assert!(side.stderr.contains("is sent from its beginning"), "{side:#?}");
    }
    assert!(received.stderr.contains("has connected anew"), "{received:#?}");
    assert_arrived(&scene, &path);
}
