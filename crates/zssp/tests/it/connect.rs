//! How connections come about, and how they do not.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use zssp::proto::{Fingerprint, RatchetPair, RatchetState, StoreError, Swap};
use zssp::{CloseReason, ConnectError, Endpoint, MemoryStore, PeerName, RatchetStore, SecretKey, Suite};

use crate::common::{builder, connect, content, endpoint, run};

#[test]
fn both_sides_know_each_other() {
    run(async {
        let client = builder().identity("alice").bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let accept = async {
            let incoming = server.accept().await.unwrap();
            assert_eq!(incoming.peer_key(), client.public_key());
            assert_eq!(incoming.identity(), b"alice");
            assert_eq!(incoming.remote_address(), client.local_addr());
            assert_eq!(incoming.suite(), Suite::MlKem1024);
            incoming.accept().await.unwrap()
        };
        let connect = client.connect(server.local_addr(), server.public_key());
        let (here, there) = tokio::join!(connect, accept);
        let here = here.unwrap();
        assert_eq!((here.peer_key(), there.peer_key()), (server.public_key(), client.public_key()));
        assert_eq!(
            (here.remote_address(), there.remote_address()),
            (server.local_addr(), client.local_addr())
        );
        assert_eq!((here.suite(), there.suite()), (Suite::MlKem1024, Suite::MlKem1024));
        assert_eq!((client.stats().connections, server.stats().connections), (1, 1));
    });
}

#[test]
fn times_too_long_to_be_added_to_a_clock_mean_forever() {
    run(async {
        let forever = || builder().connect_timeout(Duration::MAX).give_up_after(Duration::MAX);
        let client = forever().bind("127.0.0.1:0").await.unwrap();
        let server = forever().bind("127.0.0.1:0").await.unwrap();
        let (here, there) = connect(&client, &server).await;
        here.channel(0).unwrap().send("hello").await.unwrap();
        assert_eq!(there.channel(0).unwrap().receive().await.unwrap().into_data(), "hello");
        assert_eq!(here.close(0, b"").await, CloseReason::Local);
    });
}

#[test]
fn a_refused_peer_is_told() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let refuse = async { server.accept().await.unwrap().refuse() };
        let connect = client.connect(server.local_addr(), server.public_key());
        let (outcome, ()) = tokio::join!(connect, refuse);
        assert_eq!(outcome.unwrap_err(), ConnectError::Refused);
        assert_eq!((client.stats().connections, server.stats().connections), (0, 0));
    });
}

#[test]
fn an_endpoint_that_closes_tells_a_peer_that_it_was_refused() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let refuse = async {
            server.accept().await.unwrap().refuse();
            server.close(0, b"");
            server.wait_idle().await;
        };
        let connect = client.connect(server.local_addr(), server.public_key());
        let (outcome, ()) = tokio::join!(connect, refuse);
        assert_eq!(outcome.unwrap_err(), ConnectError::Refused);
    });
}

#[test]
fn an_ignored_peer_hears_nothing() {
    run(async {
        let client = builder().connect_timeout(Duration::from_secs(3)).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let ignore = async { server.accept().await.unwrap().ignore() };
        let connect = client.connect(server.local_addr(), server.public_key());
        let (outcome, ()) = tokio::join!(connect, ignore);
        assert_eq!(outcome.unwrap_err(), ConnectError::TimedOut);
    });
}

#[test]
fn the_wrong_key_reaches_nobody() {
    run(async {
        let client = builder().connect_timeout(Duration::from_secs(2)).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let stranger = SecretKey::generate().unwrap().public_key();
        let outcome = client.connect(server.local_addr(), stranger).await;
        assert_eq!(outcome.unwrap_err(), ConnectError::TimedOut);
        assert!(server.stats().faults > 0, "the server could not read the hello");
        // The same two find each other with the right one.
        connect(&client, &server).await;
    });
}

#[test]
fn nobody_at_that_address() {
    run(async {
        let client = builder().connect_timeout(Duration::from_secs(2)).bind("127.0.0.1:0").await.unwrap();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let key = SecretKey::generate().unwrap().public_key();
        let outcome = client.connect(silent.local_addr().unwrap(), key).await;
        assert_eq!(outcome.unwrap_err(), ConnectError::TimedOut);
    });
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    run(async {
        let client = builder().attempts(1).bind("127.0.0.1:0").await.unwrap();
        let key = SecretKey::generate().unwrap().public_key();
        let v6 = "[::1]:9".parse().unwrap();
        assert_eq!(client.connect(v6, key).await.unwrap_err(), ConnectError::AddressFamily(v6));
        let own = client.connect(client.local_addr(), client.public_key()).await;
        assert!(matches!(own, Err(ConnectError::Local(_))), "{own:?}");
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.connect(address, key).await }
        });
        let mut hello = [0; 100];
        tokio::task::spawn_blocking(move || silent.recv(&mut hello)).await.unwrap().unwrap();
        assert_eq!(client.connect(address, key).await.unwrap_err(), ConnectError::TooManyAttempts);
        client.close(0, b"");
        assert_eq!(first.await.unwrap().unwrap_err(), ConnectError::EndpointClosed);
        assert_eq!(client.connect(address, key).await.unwrap_err(), ConnectError::EndpointClosed);
    });
}

#[test]
fn an_attempt_that_is_dropped_makes_room() {
    run(async {
        let client = builder().attempts(1).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let key = SecretKey::generate().unwrap().public_key();
        let attempt = client.connect(silent.local_addr().unwrap(), key);
        assert!(tokio::time::timeout(Duration::from_millis(50), attempt).await.is_err());
        connect(&client, &server).await;
    });
}

#[test]
fn many_connections_on_one_socket() {
    run(async {
        let server = endpoint().await;
        let clients = 20;
        let serving = tokio::spawn({
            let server = server.clone();
            async move {
                for _ in 0..clients {
                    let incoming = server.accept().await.unwrap();
                    tokio::spawn(async move {
                        let connection = incoming.accept().await.unwrap();
                        while let Some(message) = connection.channel(0).unwrap().receive().await {
                            let reply = message.data().clone();
                            message.reply(reply).unwrap();
                        }
                    });
                }
            }
        });
        let tasks: Vec<_> = (0..clients)
            .map(|number| {
                let (address, key) = (server.local_addr(), server.public_key());
                tokio::spawn(async move {
                    let connection = endpoint().await.connect(address, key).await.unwrap();
                    for round in 0..50 {
                        let text = format!("{number}.{round}");
                        assert_eq!(connection.channel(0).unwrap().request(text.clone()).await.unwrap(), text);
                    }
                    assert_eq!(connection.close(0, b"").await, CloseReason::Local);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        serving.await.unwrap();
        server.wait_idle().await;
        assert_eq!(server.stats().connections, 0);
    });
}

#[test]
fn peers_beyond_the_queue_are_ignored_and_counted() {
    run(async {
        let server = builder().incoming_queue(1).bind("127.0.0.1:0").await.unwrap();
        let mut tasks = Vec::new();
        for _ in 0..2 {
            let (address, key) = (server.local_addr(), server.public_key());
            tasks.push(tokio::spawn(async move {
                let client =
                    builder().connect_timeout(Duration::from_secs(40)).bind("127.0.0.1:0").await.unwrap();
                client.connect(address, key).await
            }));
        }
        while server.stats().incoming_dropped == 0 {
            tokio::task::yield_now().await;
        }
        // The one that was ignored tries again, and comes in.
        for _ in 0..2 {
            let connection = server.accept().await.unwrap().accept().await;
            drop(connection);
        }
        for task in tasks {
            drop(task.await.unwrap());
        }
    });
}

#[test]
fn peers_of_one_address_leave_room_for_others() {
    run(async {
        // One may take half of the places: the third of these is ignored.
        let server = builder().incoming_queue(4).bind("127.0.0.1:0").await.unwrap();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (address, key) = (server.local_addr(), server.public_key());
                tokio::spawn(async move { endpoint().await.connect(address, key).await })
            })
            .collect();
        while server.stats().incoming_dropped == 0 {
            tokio::task::yield_now().await;
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn ipv6_and_both_families_on_one_socket() {
    run(async {
        let Ok(server) = builder().bind("[::]:0").await else {
            eprintln!("no IPv6 on this machine: not tested");
            return;
        };
        let port = server.local_addr().port();
        for (bind, to) in [("127.0.0.1:0", format!("127.0.0.1:{port}")), ("[::1]:0", format!("[::1]:{port}"))]
        {
            let client = builder().bind(bind).await.unwrap();
            let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
            let connect = client.connect(to.parse().unwrap(), server.public_key());
            let (here, there) = tokio::join!(connect, accept);
            let here = here.unwrap();
            here.channel(0).unwrap().send("hello").await.unwrap();
            assert_eq!(there.channel(0).unwrap().receive().await.unwrap().data(), "hello");
            assert_eq!(there.remote_address(), client.local_addr());
        }
    });
}

#[test]
fn settings_out_of_range_say_what_to_do() {
    run(async {
        let message = |outcome: Result<Endpoint, zssp::BindError>| {
            let error = outcome.unwrap_err();
            // Its text says what the system said: who prints the chain of sources would read it twice.
            assert!(std::error::Error::source(&error).is_none(), "{error}");
            error.to_string()
        };
        assert!(message(builder().mtu(100).bind("127.0.0.1:0").await).contains("too small"));
        assert!(message(builder().mtu(70_000).bind("127.0.0.1:0").await).contains("above"));
        assert!(message(builder().identity(vec![0; 5000]).bind("127.0.0.1:0").await).contains("4096"));
        assert!(message(builder().bind("not an address").await).contains("IP:PORT"));
        let taken = endpoint().await;
        assert!(message(builder().bind(taken.local_addr()).await).contains("port 0"));
        let suites = [Suite::Kyber1024, Suite::Zssp04];
        assert!(message(builder().suites(suites).bind("127.0.0.1:0").await).contains("Zssp04"));
    });
}

#[test]
fn every_suite_connects() {
    run(async {
        for suite in [Suite::MlKem1024, Suite::Kyber1024, Suite::Zssp04] {
            let client = builder().suites([suite]).bind("127.0.0.1:0").await.unwrap();
            let server = builder().suites([suite]).bind("127.0.0.1:0").await.unwrap();
            let (here, there) = connect(&client, &server).await;
            assert_eq!((here.suite(), there.suite()), (suite, suite));
        }
    });
}

#[test]
fn a_restarted_peer_comes_back() {
    run(async {
        let server = endpoint().await;
        let key = SecretKey::generate().unwrap();
        for round in 0..3 {
            // Each time with an empty store, as after a crash that took the ratchet with it.
            let client = Endpoint::bind("127.0.0.1:0", key.clone()).await.unwrap();
            let (here, there) = connect(&client, &server).await;
            assert_eq!(there.peer_key(), key.public_key());
            let serve =
                async { there.channel(0).unwrap().receive().await.unwrap().reply("welcome back").unwrap() };
            let channel = here.channel(0).unwrap();
            let (reply, ()) = tokio::join!(channel.request(format!("round {round}")), serve);
            assert_eq!(reply.unwrap(), "welcome back");
            here.close(0, b"restarting").await;
        }
    });
}

#[test]
fn garbage_changes_nothing_but_counters() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let (here, there) = connect(&client, &server).await;
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let garbage = content(21, 1 << 20);
        let (mut rest, mut sent) = (&garbage[..], 0);
        while !rest.is_empty() {
            let len = rest.len().min(1 + usize::from(rest[0]) * 6);
            let (mut datagram, after) = (rest[..len].to_vec(), &rest[len..]);
            // Some begin like a hello, whose key id is zero.
            if sent % 2 == 0 {
                datagram.iter_mut().take(4).for_each(|byte| *byte = 0);
            }
            stranger.send_to(&datagram, server.local_addr()).unwrap();
            (rest, sent) = (after, sent + 1);
        }
        stranger.send_to(&[], server.local_addr()).unwrap();
        let serve = async { there.channel(0).unwrap().receive().await.unwrap().reply("unmoved").unwrap() };
        let channel = here.channel(0).unwrap();
        let (reply, ()) = tokio::join!(channel.request("still there?"), serve);
        assert_eq!(reply.unwrap(), "unmoved");
        assert!(server.stats().faults > 0);
        assert_eq!(server.stats().connections, 1);
    });
}

/// A store that keeps whoever asks it waiting until it is opened.
#[derive(Default)]
struct Gate {
    /// Whether somebody waits, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
    store: MemoryStore,
}

impl Gate {
    fn is_waited_for(&self) -> bool {
        self.state.lock().unwrap().0
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }
}

impl RatchetStore for Gate {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.pass();
        self.store.load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.store.find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        self.store.compare_and_swap(peer, old, new)
    }
}

#[test]
fn steps_of_handshakes_beyond_the_queue_are_dropped_and_come_again() {
    run(async {
        let gate = Arc::new(Gate::default());
        let server = builder().handshakes(1, 1).store(gate.clone()).bind("127.0.0.1:0").await.unwrap();
        let attempt = || {
            let (address, key) = (server.local_addr(), server.public_key());
            tokio::spawn(async move { endpoint().await.connect(address, key).await.unwrap() })
        };
        let mut attempts = vec![attempt()];
        let first = server.accept().await.unwrap();
        let accepting = tokio::spawn(first.accept());
        while !gate.is_waited_for() {
            tokio::task::yield_now().await;
        }
        // One step is being computed and does not end; of all others one can wait.
        attempts.extend((0..4).map(|_| attempt()));
        while server.stats().handshakes_dropped < 3 {
            tokio::task::yield_now().await;
        }
        gate.open();
        let mut connections = vec![accepting.await.unwrap().unwrap()];
        while connections.len() < attempts.len() {
            if let Ok(connection) = server.accept().await.unwrap().accept().await {
                connections.push(connection);
            }
        }
        for attempt in attempts {
            connections.push(attempt.await.unwrap());
        }
    });
}

/// Nobody takes what has come of it: whoever accepts does not look any more.
#[test]
fn an_endpoint_becomes_idle_though_nobody_takes_the_connection_that_was_accepted() {
    run(async {
        let gate = Arc::new(Gate::default());
        let server = builder().store(gate.clone()).bind("127.0.0.1:0").await.unwrap();
        let (address, key) = (server.local_addr(), server.public_key());
        let client = endpoint().await;
        tokio::spawn(async move { client.connect(address, key).await });
        let mut accepting = std::pin::pin!(server.accept().await.unwrap().accept());
        while !gate.is_waited_for() {
            tokio::select! {
                biased;
                _ = &mut accepting => panic!("the store does not answer yet"),
                () = tokio::task::yield_now() => {}
            }
        }
        server.close(0, b"");
        gate.open();
        server.wait_idle().await;
        assert_eq!(server.stats().connections, 0);
    });
}

/// Its turn came before the endpoint was closed, and whoever accepts looks only afterwards.
#[test]
fn a_peer_that_is_accepted_too_late_leaves_nothing_in_an_idle_endpoint() {
    run(async {
        let gate = Arc::new(Gate::default());
        let server = builder().handshakes(1, 8).store(gate.clone()).bind("127.0.0.1:0").await.unwrap();
        let (address, key) = (server.local_addr(), server.public_key());
        let clients = [endpoint().await, endpoint().await];
        for client in clients.clone() {
            tokio::spawn(async move { client.connect(address, key).await });
        }
        let (first, second) = (server.accept().await.unwrap(), server.accept().await.unwrap());
        let name = PeerName::from(second.peer_key());
        let first = tokio::spawn(first.accept());
        while !gate.is_waited_for() {
            tokio::task::yield_now().await;
        }
        let mut second = std::pin::pin!(second.accept());
        tokio::select! {
            biased;
            _ = &mut second => panic!("the only place is taken"),
            () = std::future::ready(()) => {}
        }
        gate.open();
        first.await.unwrap().unwrap();
        server.close(0, b"");
        server.wait_idle().await;
        assert_eq!(second.await.unwrap_err(), ConnectError::EndpointClosed);
        assert_eq!(server.stats().connections, 0);
        assert!(gate.store.load(&name).unwrap().is_never_met());
    });
}
