//! Transfers that do not happen, or end before their end.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{Finished, Receiver, Running, Scene, finish, keygen, zssp};

/// More than any machine sends before a test has cut it off.
const ENDLESS: u64 = 1 << 40;

/// A transfer under way, with part of a file arrived.
fn under_way(scene: &Scene, sender: &[&str], receiver: &[&str]) -> (Running, Receiver) {
    let path = scene.endless(ENDLESS);
    let receiver = scene.receive(receiver);
    let mut command = zssp(["send", "--key"]);
    command.arg(scene.path("alice.key")).args(["--to", &format!("{}@{}", scene.bob, receiver.address)]);
    let sender = Running::start(command.args(sender).arg(path));
    scene.wait_for_partial();
    (sender, receiver)
}

/// What is there has no final name, and is kept for another attempt.
#[track_caller]
fn assert_only_a_part(scene: &Scene) {
    let left = scene.arrived();
    assert!(left.len() == 1 && left[0].starts_with(".zssp-partial-"), "{left:?}");
}

fn ends_within<T>(limit: Duration, what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = what();
    assert!(start.elapsed() < limit, "took {:?}", start.elapsed());
    result
}

#[test]
fn a_killed_sender_leaves_a_part_that_is_named_as_such() {
    let scene = Scene::new();
    let (sender, receiver) = under_way(&scene, &[], &["--once", "--timeout", "2"]);
    sender.signal("KILL");
    let received = receiver.finish();
    received.failed_with(4, "silent");
    assert_only_a_part(&scene);
}

#[test]
fn a_killed_receiver_is_noticed_and_its_unfinished_file_is_named_as_such() {
    let scene = Scene::new();
    let (sender, receiver) = under_way(&scene, &["--timeout", "2"], &[]);
    receiver.signal("KILL");
    let sent = sender.finish();
    assert_eq!(sent.code, Some(4), "{sent:#?}");
    assert!(sent.stderr.contains("run it again:\n  zssp send --key "), "{sent:#?}");
    assert_only_a_part(&scene);
}

#[test]
fn ctrl_c_at_the_sender_ends_both() {
    let scene = Scene::new();
    let (sender, receiver) = under_way(&scene, &[], &["--once"]);
    sender.signal("INT");
    let (sent, received) = ends_within(Duration::from_secs(10), || (sender.finish(), receiver.finish()));
    sent.failed_with(130, "interrupted");
    received.failed_with(1, "interrupted by its user");
    assert_only_a_part(&scene);
}

#[test]
fn ctrl_c_at_the_receiver_ends_both() {
    let scene = Scene::new();
    let (sender, receiver) = under_way(&scene, &[], &[]);
    receiver.signal("INT");
    let (sent, received) = ends_within(Duration::from_secs(10), || (sender.finish(), receiver.finish()));
    received.failed_with(130, "interrupted");
    sent.failed_with(1, "interrupted by its user");
    assert!(sent.stderr.contains("run it again:\n  zssp send --key "), "{sent:#?}");
    assert_only_a_part(&scene);
}

#[test]
fn a_terminated_receiver_says_goodbye_too() {
    let scene = Scene::new();
    let (sender, receiver) = under_way(&scene, &[], &[]);
    receiver.signal("TERM");
    assert_eq!(receiver.finish().code, Some(143));
    assert_eq!(sender.finish().code, Some(1));
    assert_only_a_part(&scene);
}

#[test]
fn ctrl_c_while_nobody_answers_ends_at_once() {
    let scene = Scene::new();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("{}@{}", scene.bob, silent.local_addr().unwrap());
    let mut command = zssp(["send", "--timeout", "60", "--to", &to, "--key"]);
    let sender = Running::start(command.arg(scene.path("alice.key")).arg(scene.path("bob.key")));
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    silent.recv(&mut [0; 2000]).expect("a hello");
    sender.signal("INT");
    let sent = ends_within(Duration::from_secs(10), || sender.finish());
    assert_eq!(sent.code, Some(130), "{sent:#?}");
}

#[test]
fn with_the_wrong_key_nobody_answers() {
    let scene = Scene::new();
    let receiver = scene.receive(&[]);
    let other = keygen(&scene.path("other.key"));
    let sent = send_to(&scene, &format!("{other}@{}", receiver.address));
    sent.failed_with(4, "no answer from");
    assert!(sent.stderr.contains("public key"), "{sent:#?}");
    assert!(receiver.stop().success());
    assert!(scene.arrived().is_empty());
}

#[test]
fn a_key_of_ones_own_is_no_peer() {
    let scene = Scene::new();
    let (key, file) = (scene.path("alice.key"), scene.path("alice.ratchets"));
    for command in ["ping", "bench", "send"] {
        let mut command = zssp([command, "--to", &format!("{}@127.0.0.1:9", scene.alice), "--key"]);
        command.arg(&key).arg("--ratchets").arg(&file);
        if command.get_args().next().is_some_and(|name| name == "send") {
            command.arg(&key);
        }
        finish(&mut command).failed_with(2, "this side's own");
        assert!(!file.exists(), "a file was made for it");
    }
}

#[test]
fn where_nobody_listens_nobody_answers() {
    let scene = Scene::new();
    send_to(&scene, &format!("{}@127.0.0.1:9", scene.bob)).failed_with(4, "no answer from 127.0.0.1:9");
    send_to(&scene, &format!("{}@no..such..host", scene.bob)).failed_with(4, "not known");
}

#[test]
fn an_unknown_sender_is_refused_and_both_sides_learn_what_to_do() {
    let scene = Scene::new();
    let carol = keygen(&scene.path("carol.key"));
    let receiver = Receiver::start(&mut scene.receive_command(&["--allow", &carol]));
    fs::write(scene.path("a"), "hello").unwrap();
    let sent =
        ends_within(Duration::from_secs(8), || finish(&mut scene.send(&receiver, &[&scene.path("a")])));
    let advice = format!("--allow {}", scene.alice);
    sent.failed_with(3, &advice);

    // The receiver goes on: the one it knows is served.
    let to = format!("{}@{}", scene.bob, receiver.address);
    let known =
        finish(zssp(["send", "--to", &to, "--key"]).arg(scene.path("carol.key")).arg(scene.path("a")));
    assert!(known.success(), "{known:#?}");
    let received = receiver.stop();
    assert!(received.stderr.contains(&advice), "{received:#?}");
    assert_eq!(scene.arrived(), ["a"]);
}

fn send_to(scene: &Scene, to: &str) -> Finished {
    let mut command = zssp(["send", "--timeout", "2", "--to", to, "--key"]);
    let path: &Path = &scene.path("alice.key");
    ends_within(Duration::from_secs(20), || finish(command.arg(path).arg(path)))
}
