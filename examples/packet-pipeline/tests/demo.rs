//! The program as its user runs it, for a short transfer. Needs root and `ip`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use zssp_segment::Segment;

/// Runs the demonstration, and returns what it printed.
fn demo(arguments: &str) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || Command::new("ip").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root and `ip` (iproute2)");
        eprintln!("SKIPPED: this test needs root and `ip` (iproute2)");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let output = Command::new(program).arg("demo").args(arguments.split(' ')).output().unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments}: {printed}{errors}");
    Some(printed.into_owned())
}

#[test]
fn every_message_arrives_once_and_the_control_messages_in_order() {
    for (arguments, expected) in [
        ("--threads 1 --size 64 --bytes 640000", "received 10000 messages of 640000 bytes once each"),
        ("--threads 2 --size 1400 --bytes 7000000", "received 5000 messages of 7000000 bytes once each"),
        ("--threads 2 --size 61440 --bytes 61440000", "received 1000 messages of 61440000 bytes once each"),
        (
            "--threads 2 --size 61440 --bytes 6144000 --mtu 9000",
            "received 100 messages of 6144000 bytes once each",
        ),
        (
            "--threads 2 --size 10000 --bytes 1000000 --mtu 576 --level 0",
            "received 100 messages of 1000000 bytes",
        ),
    ] {
        let Some(printed) = demo(arguments) else { return };
        assert!(printed.contains(expected), "{printed}");
    }
}

#[test]
fn what_is_lost_comes_all_the_same() {
    for arguments in [
        "--threads 2 --size 1400 --bytes 2800000 --lose 50",
        "--threads 2 --size 30000 --bytes 3000000 --lose 200",
        "--threads 2 --size 1400 --bytes 2800000 --lose 50 --udp",
    ] {
        let Some(printed) = demo(arguments) else { return };
        assert!(printed.contains("once each"), "{printed}");
        let lost = printed.lines().filter_map(|line| line.split_once("on purpose ")?.1.split(',').next());
        assert!(lost.map(|lost| lost.parse::<u64>().unwrap()).sum::<u64>() > 0, "{printed}");
    }
}

#[test]
fn two_processes_on_two_hosts_meet() {
    let Some(segment) = Segment::for_test(2) else { return };
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let mut receive = segment.command(1, program);
    let mut receiver = receive.args(["receive", "eth0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let mut line = || printed.next().unwrap().unwrap();
    let (first, key) = (line(), line());
    let mac = first.strip_prefix("waiting at ").unwrap().split(' ').next().unwrap();
    let mut send = segment.command(0, program);
    let sent =
        send.args(["send", &format!("eth0/{mac}"), &key, "--size", "61440", "--bytes", "30720000"]).output();
    let sent = sent.unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let received = line();
    assert!(received.starts_with("received 500 messages of 30720000 bytes once each"), "{received}");
    assert!(receiver.wait().unwrap().success());
}

#[test]
fn a_message_that_no_packet_holds_is_refused() {
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let output = Command::new(program).args(["demo", "--size", "65537"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("messages have 8 to 65536 bytes"), "{output:?}");
}
