//! The program as its user runs it, for a short transfer. Needs root and `ip`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::process::Command;

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
fn a_message_that_no_packet_holds_is_refused() {
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let output = Command::new(program).args(["demo", "--size", "65537"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("messages have 8 to 65536 bytes"), "{output:?}");
}
