//! Files over raw Ethernet, between two network namespaces. Needs root and `ip`.

use std::{fs, path::Path, process::Command};

use zssp_segment::Segment;

use crate::harness::{Receiver, Running, Scene, finish};

fn zssp(segment: &Segment, host: usize) -> Command {
    segment.command(host, env!("CARGO_BIN_EXE_zssp"))
}

#[test]
fn a_file_crosses_a_segment_without_ip() {
    let Some(segment) = Segment::for_test(2) else { return };
    let scene = Scene::new();
    let contents: Vec<u8> =
        (0..20_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(scene.path("file"), &contents).unwrap();

    let mut receive = zssp(&segment, 1);
    receive.args(["receive", "--listen", "ethernet:eth0", "--once", "--allow", &scene.alice, "--key"]);
    let receiver = Receiver::start(receive.arg(scene.path("bob.key")).arg("--dir").arg(scene.inbox()));
    assert!(receiver.address.starts_with("ethernet:eth0/"), "{}", receiver.address);
    // Both interfaces have the same name, each in its namespace.
    let to = format!("{}@{}", scene.bob, receiver.address);
    let mut send = zssp(&segment, 0);
    send.args(["send", "--to", &to, "--key"]).arg(scene.path("alice.key")).arg(scene.path("file"));
    let sent = finish(&mut send);
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    assert!(fs::read(scene.inbox().join("file")).unwrap() == contents);
    let card = received.stderr.split_once("connected from ").unwrap().1.split_once(" with").unwrap().0;
    assert_eq!((card.len(), card.matches(':').count()), (17, 5), "it is called by its card: {card}");
}

#[test]
fn an_interrupted_sender_prints_the_command_that_goes_on() {
    let Some(segment) = Segment::for_test(2) else { return };
    let scene = Scene::new();
    let path = scene.path("two words");
    fs::File::create(&path).unwrap().set_len(128 << 20).unwrap();
    let mut receive = zssp(&segment, 1);
    receive.args(["receive", "--listen", "ethernet:eth0", "--allow", &scene.alice, "--key"]);
    let receiver = Receiver::start(receive.arg(scene.path("bob.key")).arg("--dir").arg(scene.inbox()));

    let to = format!("{}@{}", scene.bob, receiver.address);
    let mut send = zssp(&segment, 0);
    let sender =
        Running::start(send.args(["send", "--to", &to, "--key"]).arg(scene.path("alice.key")).arg(&path));
    scene.wait_for_partial();
    sender.signal("INT");
    let interrupted = sender.finish();
    interrupted.failed_with(130, &format!("--to {to} "));
    let command = interrupted.stderr.lines().find(|line| line.starts_with("  zssp send")).unwrap();

    let programs = Path::new(env!("CARGO_BIN_EXE_zssp")).parent().unwrap();
    let script = format!("PATH={}:$PATH\n{command}", programs.display());
    let again = finish(segment.command(0, "sh").args(["-c", &script]));
    assert!(again.success() && again.stderr.contains("going on at byte "), "{again:#?}");
    assert_eq!(scene.arrived(), ["two words"]);
    assert!(receiver.stop().success());
}

#[test]
fn what_is_wrong_with_an_interface_is_said() {
    let Some(segment) = Segment::for_test(1) else { return };
    let scene = Scene::new();
    let receive = |mut command: Command, listen: &str| {
        command.args(["receive", "--listen", listen, "--allow", "any", "--key"]);
        finish(command.arg(scene.path("bob.key")).arg("--dir").arg(scene.inbox()))
    };
    receive(zssp(&segment, 0), "ethernet:eth7")
        .failed_with(5, "there is no network interface eth7: `ip link` lists them");
    receive(zssp(&segment, 0), "ethernet:a/b").failed_with(2, "`a/b` is not the name of a network interface");

    let mut unprivileged = segment.command(0, "setpriv");
    unprivileged.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", env!("CARGO_BIN_EXE_zssp")]);
    receive(unprivileged, "ethernet:eth0").failed_with(5, "setcap cap_net_raw+ep");

    let to = format!("{}@ethernet:eth0/02:00:00:00:00:99", scene.bob);
    let mut nobody = zssp(&segment, 0);
    nobody.args(["send", "--timeout", "1", "--to", &to, "--key"]).arg(scene.path("alice.key"));
    finish(nobody.arg(scene.path("bob.key"))).failed_with(4, "is it on the same segment");
    let mut misspelt = zssp(&segment, 0);
    misspelt.args(["send", "--to", &to[..to.len() - 3], "--key"]).arg(scene.path("alice.key"));
    finish(misspelt.arg(scene.path("bob.key"))).failed_with(2, "six bytes");
}
