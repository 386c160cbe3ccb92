//! `zssp ping`, `zssp bench` and `zssp serve`.

use std::process::Command;

use crate::{
    harness::{Receiver, Running, Scene, finish, keygen, zssp},
    relay::Relay,
};

/// `zssp serve` as Bob, with Alice welcome.
fn serve(scene: &Scene) -> Receiver {
    let mut command = zssp(["serve", "--listen", "127.0.0.1:0", "--allow", &scene.alice, "--key"]);
    Receiver::start(command.arg(scene.path("bob.key")))
}

/// A command as Alice to Bob at `address`.
fn to_bob(scene: &Scene, command: &str, address: &str, more: &[&str]) -> Command {
    let mut command = zssp([command, "--to", &format!("{}@{address}", scene.bob), "--key"]);
    command.arg(scene.path("alice.key")).args(more);
    command
}

#[test]
fn pings_come_back_and_are_summed_up() {
    let scene = Scene::new();
    let server = serve(&scene);
    let args = ["--count", "3", "--interval", "0.01", "--size", "5000"];
    let pinged = finish(&mut to_bob(&scene, "ping", &server.address, &args));
    assert!(pinged.success(), "{pinged:#?}");
    for number in 1..=3 {
        let line = format!("5000 bytes from {}: seq={number} time=", server.address);
        assert!(pinged.stdout.contains(&line), "{pinged:#?}");
    }
    assert!(pinged.stdout.contains("3 sent, 3 received, 0.0 % lost"), "{pinged:#?}");
    assert!(pinged.stdout.contains("round trip min/avg/max/stddev = "), "{pinged:#?}");
    let served = server.stop();
    assert!(served.success(), "{served:#?}");
    assert!(served.stderr.contains("is gone: closed by the peer with code 0: done"), "{served:#?}");
}

#[test]
fn ctrl_c_ends_pings_with_their_summary() {
    let scene = Scene::new();
    let server = serve(&scene);
    let mut pinging = Running::start(&mut to_bob(&scene, "ping", &server.address, &["--interval", "0.01"]));
    pinging.wait_for_line(": seq=2 time=");
    pinging.signal("INT");
    let pinged = pinging.finish();
    assert!(pinged.success() && pinged.stdout.contains(" % lost, time "), "{pinged:#?}");
    assert!(pinged.stdout.contains("round trip min/avg/max/stddev = "), "{pinged:#?}");
}

#[test]
fn pings_end_when_nobody_reads_them_any_more() {
    let scene = Scene::new();
    let server = serve(&scene);
    let mut pinging = Running::start(&mut to_bob(&scene, "ping", &server.address, &["--interval", "0.01"]));
    pinging.wait_for_line(": seq=2 time=");
    pinging.hang_up();
    let pinged = pinging.finish();
    assert!(pinged.success() && pinged.stderr.is_empty(), "{pinged:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn results_that_cannot_be_written_are_an_error() {
    let scene = Scene::new();
    let server = serve(&scene);
    let ping = to_bob(&scene, "ping", &server.address, &["--interval", "0.01"]);
    let pubkey = zssp(["pubkey", scene.path("alice.key").to_str().unwrap()]);
    for command in [ping, pubkey] {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec "$@" > /dev/full"#, "sh"]).arg(command.get_program());
        finish(shell.args(command.get_args())).failed_with(5, "standard output cannot be written: ");
    }
}

/// Sealed, a ping of this many bytes is in one datagram, as long as none of a handshake.
const LARGE_PING: &str = "1000";

fn holds_large_ping(len: usize) -> bool {
    (1000..1100).contains(&len)
}

#[test]
fn lost_pings_are_counted() {
    let scene = Scene::new();
    let server = serve(&scene);
    let mut pings = 0;
    let relay = Relay::start(&server.address, move |len| {
        pings += usize::from(holds_large_ping(len));
        holds_large_ping(len) && pings % 2 == 1
    });
    let args = ["--count", "4", "--interval", "0.01", "--size", LARGE_PING];
    let pinged = finish(&mut to_bob(&scene, "ping", &relay.address, &args));
    assert!(pinged.success(), "{pinged:#?}");
    assert!(pinged.stdout.contains("4 sent, 2 received, 50.0 % lost"), "{pinged:#?}");
}

#[test]
fn pings_that_are_never_answered_are_told_and_fail() {
    let scene = Scene::new();
    let server = serve(&scene);
    let relay = Relay::start(&server.address, holds_large_ping);
    let args = ["--interval", "0.1", "--size", LARGE_PING];
    let mut pinging = Running::start(&mut to_bob(&scene, "ping", &relay.address, &args));
    pinging.wait_for_line("no answer yet: seq=1");
    pinging.signal("INT");
    let pinged = pinging.finish();
    assert_eq!(pinged.code, Some(1), "{pinged:#?}");
    assert!(
        pinged.stdout.contains(" 0 received, ") && pinged.stdout.contains(" 100.0 % lost"),
        "{pinged:#?}"
    );
}

#[test]
fn a_server_and_a_receiver_do_not_take_what_is_for_the_other() {
    let scene = Scene::new();
    let server = serve(&scene);
    let sent = finish(to_bob(&scene, "send", &server.address, &[]).arg(scene.path("bob.key")));
    sent.failed_with(3, "`zssp receive`");
    let served = server.stop();
    assert!(served.stderr.contains("it wants to send files"), "{served:#?}");

    let receiver = scene.receive(&["--once"]);
    finish(&mut to_bob(&scene, "ping", &receiver.address, &[])).failed_with(3, "`zssp serve`");
    // It still waits for its one transfer.
    let sent = finish(&mut scene.send(&receiver, &[&scene.path("alice.key")]));
    assert!(sent.success(), "{sent:#?}");
    let received = receiver.finish();
    assert!(received.success() && received.stderr.contains("it wants to measure"), "{received:#?}");
}

#[test]
fn a_stranger_may_not_measure() {
    let scene = Scene::new();
    let carol = keygen(&scene.path("carol.key"));
    let server = serve(&scene);
    let mut command = zssp(["bench", "--to", &format!("{}@{}", scene.bob, server.address), "--key"]);
    let refused = finish(command.arg(scene.path("carol.key")));
    let advice = format!("--allow {carol}");
    refused.failed_with(3, &advice);
    assert!(server.stop().stderr.contains(&advice));
}

/// The four lines of the table, each with a throughput above nothing.
fn assert_table(table: &str) {
    for way in ["streams", "messages", "requests", "datagrams"] {
        let row = table.lines().find(|line| line.starts_with(way)).unwrap_or_else(|| panic!("{table}"));
        let speed: f64 = row.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert!(speed > 0.0, "{table}");
    }
}

#[test]
fn a_bench_in_one_process_measures_every_way() {
    let bench = finish(&mut zssp(["bench", "--duration", "0.1", "--streams", "3"]));
    assert!(bench.success() && bench.stdout.contains("3 streams, 0.1 s each"), "{bench:#?}");
    assert!(bench.stdout.contains("both ends"), "{bench:#?}");
    assert_table(&bench.stdout);
}

#[test]
fn the_example_of_a_bench_with_sizes_runs() {
    let help = finish(&mut zssp(["bench", "--help"])).stdout;
    let example = help.lines().find_map(|line| line.trim().strip_prefix("zssp bench --streams")).unwrap();
    let example = format!("bench --streams{}", example.replace("--duration 10", "--duration 0.1"));
    let bench = finish(&mut zssp(example.split(' ')));
    assert!(bench.success() && bench.stdout.contains("0.1 s each"), "{bench:#?}");
    assert_table(&bench.stdout);
}

#[test]
fn a_bench_between_two_machines_measures_every_way() {
    let scene = Scene::new();
    let server = serve(&scene);
    let args = ["--duration", "0.1", "--size", "4KiB"];
    let bench = finish(&mut to_bob(&scene, "bench", &server.address, &args));
    assert!(bench.success() && bench.stdout.contains("this end"), "{bench:#?}");
    assert_table(&bench.stdout);
    assert!(server.stop().success());
}

#[test]
fn a_killed_bench_does_not_keep_the_server_from_others() {
    let scene = Scene::new();
    let server = serve(&scene);
    let mut bench = Running::start(&mut to_bob(&scene, "bench", &server.address, &["--duration", "60"]));
    bench.wait_for_line("MiB/s");
    bench.signal("KILL");
    drop(bench);
    let pinged = finish(&mut to_bob(&scene, "ping", &server.address, &["--count", "1"]));
    assert!(pinged.success(), "{pinged:#?}");
}

#[test]
fn a_bench_learns_that_its_server_has_ended() {
    let scene = Scene::new();
    let server = serve(&scene);
    let mut bench = Running::start(&mut to_bob(&scene, "bench", &server.address, &["--duration", "3600"]));
    bench.wait_for_line("MiB/s");
    assert!(server.stop().success());
    bench.finish().failed_with(1, "the server is shutting down");
}

#[test]
fn ctrl_c_ends_a_bench_at_once() {
    let mut bench = Running::start(&mut zssp(["bench", "--duration", "3600"]));
    bench.wait_for_line("MiB/s");
    bench.signal("INT");
    let bench = bench.finish();
    assert_eq!(bench.code, Some(130), "{bench:#?}");
    assert_eq!(bench.stderr, "", "nothing went wrong");
}

#[test]
fn impossible_sizes_are_named() {
    finish(&mut zssp(["bench", "--size", "1MiB"])).failed_with(2, "--size is 1048576");
    let scene = Scene::new();
    // Nobody is asked.
    finish(&mut to_bob(&scene, "ping", "127.0.0.1:9", &["--size", "8"])).failed_with(2, "--size is 8");
    let server = serve(&scene);
    let pinged = finish(&mut to_bob(&scene, "ping", &server.address, &["--size", "1MiB"]));
    pinged.failed_with(2, "a ping has 9 to");
}
