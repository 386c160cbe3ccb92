//! The program as its user runs it, for a short transfer. Needs root and `ip`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use zssp_segment::Segment;

/// Runs the demonstration, and returns what it printed.
fn demo(arguments: &str) -> Option<String> {
    Segment::for_test(0)?;
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

/// A receiver on host 1 and what else it prints, and a command that sends to it from host 0.
fn receiver_and_sender(segment: &Segment) -> (Child, BufReader<ChildStdout>, Command) {
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let mut receive = segment.command(1, program);
    let mut receiver = receive.args(["receive", "eth0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(receiver.stdout.take().unwrap());
    let (first, key) = (line(&mut printed), line(&mut printed));
    let mac = first.strip_prefix("waiting at ").unwrap().split(' ').next().unwrap();
    let mut send = segment.command(0, program);
    send.args(["send", &format!("eth0/{mac}"), key.trim_end(), "--size", "61440"]);
    (receiver, printed, send)
}

fn line(printed: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    printed.read_line(&mut line).unwrap();
    line
}

#[test]
fn two_processes_on_two_hosts_meet() {
    let Some(segment) = Segment::for_test(2) else { return };
    let (mut receiver, mut printed, mut send) = receiver_and_sender(&segment);
    let sent = send.args(["--bytes", "30720000"]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let received = line(&mut printed);
    assert!(received.starts_with("received 500 messages of 30720000 bytes once each"), "{received}");
    assert!(receiver.wait().unwrap().success());
}

#[test]
fn a_sender_whose_receiver_dies_ends_with_an_error() {
    let Some(segment) = Segment::for_test(2) else { return };
    let (mut receiver, _printed, mut send) = receiver_and_sender(&segment);
    let endless = send.args(["--bytes", "1000000000000"]).stderr(Stdio::piped());
    let mut sender = endless.spawn().unwrap();
    // Far more frames than a handshake has.
    let mut count = segment.command(1, "cat");
    count.arg("/sys/class/net/eth0/statistics/rx_packets");
    let (start, limit) = (Instant::now(), Duration::from_secs(20));
    while String::from_utf8(count.output().unwrap().stdout).unwrap().trim().parse::<u64>().unwrap() < 1000 {
        assert!(start.elapsed() < limit, "nothing is sent");
        sleep(Duration::from_millis(10));
    }
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let death = Instant::now();
    let status = loop {
        match sender.try_wait().unwrap() {
            Some(status) => break status,
            None if death.elapsed() < limit => sleep(Duration::from_millis(50)),
            None => {
                sender.kill().unwrap();
                panic!("the sender waits for the dead");
            }
        }
    };
    let mut errors = String::new();
    sender.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(!status.success() && errors.contains("nothing heard for 10s"), "{status}: {errors}");
}

#[test]
fn a_message_that_no_packet_holds_is_refused() {
    let program = env!("CARGO_BIN_EXE_packet-pipeline");
    let output = Command::new(program).args(["demo", "--size", "72001"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("messages have 8 to 72000 bytes"), "{output:?}");
}
