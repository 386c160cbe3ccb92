//! One session, many threads that seal, open and rekey at once: every payload arrives exactly once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Pair, Peer, Setup};
use zssp_proto::crypto::Provider;
use zssp_proto::{
    Address, Context, Datagram, Event, Fault, Handshake, Open, Outbox, PeerName, Received, Scratch, Session,
};
use zssp_sim::{Clock, seeds};

const SENDERS: u32 = 4;
const RECEIVERS: usize = 4;
/// Payloads of each sender.
const PAYLOADS: u32 = 400;
/// Datagrams that wait for each receiver, and as many that it has in hand. So few that never more packets are
/// incomplete at once than a session may have, however the system schedules the threads.
const IN_FLIGHT: usize = 4;

/// A provider without the harness's key log, which has a lock.
fn setup() -> Setup {
    #[cfg(feature = "aws-lc")]
    let provider: Arc<dyn Provider> = Arc::new(zssp_proto::crypto::AwsLc);
    #[cfg(not(feature = "aws-lc"))]
    let provider: Arc<dyn Provider> = Arc::new(zssp_proto::crypto::RustCrypto);
    Setup { provider: Some(provider), ..Setup::default() }
}

/// Who sent it, which one it is, and bytes that follow from both.
fn payload(sender: u32, number: u32, len: usize) -> Vec<u8> {
    let mut payload = [sender.to_be_bytes(), number.to_be_bytes()].concat();
    payload.extend((8..len).map(|place| (place as u32 ^ sender ^ number) as u8));
    payload
}

/// Seals payloads of up to twenty fragments and hands each datagram to any receiver, each `copies` times.
fn send(session: &Session, (sender, copies): (u32, usize), receivers: &[SyncSender<Vec<u8>>], seed: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ u64::from(sender) << 32);
    let mut buffer = vec![0; Session::sealed_len(8000, 400).unwrap()];
    let mut waiting = Vec::new();
    for number in 0..PAYLOADS {
        let len =
            if random.random_bool(0.5) { random.random_range(8..300) } else { random.random_range(8..7500) };
        let sealed = session.seal(&payload(sender, number, len), 400, &mut buffer).unwrap();
        for datagram in sealed.datagrams(&buffer) {
            waiting.extend((0..copies).map(|_| datagram.to_vec()));
        }
        if number % 4 == 3 || number == PAYLOADS - 1 {
            waiting.shuffle(&mut random);
            for datagram in waiting.drain(..) {
                receivers[random.random_range(0..receivers.len())].send(datagram).unwrap();
            }
        }
    }
}

/// Reads datagrams in batches of any size until there are no more.
fn receive(
    context: &Context,
    (from, clock): (Address, &Clock),
    datagrams: &Receiver<Vec<u8>>,
    delivered: &Mutex<Vec<Vec<u8>>>,
) {
    let mut scratch = Scratch::new();
    let deliver = |received: Result<Received<'_>, Fault>| match received {
        Ok(Received::Nothing | Received::Reply(_)) => false,
        Ok(Received::Payload { bytes, .. }) => {
            delivered.lock().unwrap().push(bytes.to_vec());
            true
        }
        Ok(Received::Handshake(_)) => panic!("nobody sent a handshake packet"),
        // Copies that come after the packet was delivered.
        Err(Fault::Replayed | Fault::Fragment) => true,
        Err(fault) => panic!("{fault}"),
    };
    while let Ok(first) = datagrams.recv() {
        let batch = core::iter::once(first).chain(datagrams.try_iter().take(IN_FLIGHT));
        for mut datagram in batch {
            deliver(context.receive(clock.now(), from, &mut datagram, &mut scratch));
        }
        while deliver(context.flush(clock.now(), &mut scratch)) {}
    }
}

/// All payloads of all senders through all receivers.
fn exchange(pair: &mut Pair, copies: usize, seed: u64) -> Vec<Vec<u8>> {
    let delivered = Mutex::new(Vec::new());
    let (session, context, from) = (pair.alice.session(), &pair.bob.context, pair.alice.address());
    let clock = Clock::new();
    thread::scope(|scope| {
        let (inputs, outputs): (Vec<_>, Vec<_>) = (0..RECEIVERS).map(|_| sync_channel(IN_FLIGHT)).unzip();
        for datagrams in outputs {
            let (delivered, clock) = (&delivered, &clock);
            scope.spawn(move || receive(context, (from, clock), &datagrams, delivered));
        }
        for sender in 0..SENDERS {
            let inputs = inputs.clone();
            scope.spawn(move || send(session, (sender, copies), &inputs, seed));
        }
    });
    delivered.into_inner().unwrap()
}

//= ZSSP-PKT-10  one counter for all threads
//= ZSSP-RPL-03  of several threads with the same counter, exactly one wins
//= ZSSP-REA-01  fragments of one packet meet whichever thread they arrive at
#[test]
fn every_payload_arrives_exactly_once() {
    for copies in [1, 2] {
        seeds::run(2, |seed| {
            let mut pair = Pair::established(seed, &setup());
            let before = pair.alice.session().packets_sealed();
            let delivered = exchange(&mut pair, copies, seed);

            // With copies, what is left of packets that were delivered makes room.
            assert!(copies > 1 || pair.bob.stats().incomplete_evicted == 0);
            let mut seen: BTreeMap<(u32, u32), usize> = BTreeMap::new();
            for bytes in delivered {
                let (sender, rest) = bytes.split_first_chunk().unwrap();
                let (sender, number) =
                    (u32::from_be_bytes(*sender), u32::from_be_bytes(*rest.first_chunk().unwrap()));
                assert_eq!(bytes, payload(sender, number, bytes.len()));
                *seen.entry((sender, number)).or_default() += 1;
            }
            assert!(seen.values().all(|times| *times == 1), "twice");
            assert_eq!(seen.len() as u32, SENDERS * PAYLOADS, "{copies} copies");
            assert_eq!(pair.alice.session().packets_sealed() - before, u64::from(SENDERS * PAYLOADS));

            // Copies of fragments that came after their packet was whole are forgotten.
            pair.drive_for(Duration::from_secs(6));
            let stats = pair.bob.stats();
            assert_eq!((stats.key_ids, stats.sessions, stats.reassembly_bytes), (1, 1, 0));
            assert!(pair.bob.is_idle());
            assert!(pair.talk());
        });
    }
}

/// Sessions are made and closed by four threads while four others send rubbish and read deadlines; in the end nothing
/// is left.
//= ZSSP-DEF-05  locks have one order: the debug build checks it at every lock
#[test]
fn sessions_come_and_go_on_all_threads() {
    seeds::run(2, |seed| {
        let pair = Pair::with(seed, &setup());
        let (alice, bob) = (&pair.alice, &pair.bob);
        let now = pair.now();
        thread::scope(|scope| {
            for number in 0..4u8 {
                scope.spawn(move || {
                    let (mut to_bob, mut to_alice) = (Scratch::new(), Scratch::new());
                    for round in 0..40u8 {
                        let name = PeerName::new(&[number, round]);
                        let open = Open::to(bob.public_key(), bob.address()).name(name);
                        let (id, handshake) = alice.context.open(now, open).unwrap();
                        let mut datagrams = run((alice, now), handshake, (number, round));
                        let mut side = false;
                        while !datagrams.is_empty() {
                            let (peer, from, scratch) = if side {
                                (alice, bob.address(), &mut to_alice)
                            } else {
                                (bob, alice.address(), &mut to_bob)
                            };
                            let mut answers = Vec::new();
                            for mut datagram in datagrams {
                                let received = peer.context.receive(now, from, &mut datagram, scratch);
                                if let Ok(Received::Handshake(work)) = received {
                                    answers.extend(run((peer, now), work, (number, round)));
                                }
                            }
                            datagrams = answers;
                            side = !side;
                            if round % 4 == 3 && side {
                                alice.context.close(id);
                            }
                        }
                        if round % 2 == 0 {
                            alice.context.close(id);
                        }
                    }
                });
            }
            for number in 0..2u64 {
                scope.spawn(move || {
                    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ number);
                    let mut scratch = Scratch::new();
                    for _ in 0..20_000 {
                        let mut datagram: [u8; 64] = random.random();
                        let result = bob.context.receive(now, alice.address(), &mut datagram, &mut scratch);
                        assert!(!matches!(result, Ok(Received::Payload { .. })));
                        alice.context.next_deadline();
                        bob.context.stats();
                    }
                });
            }
        });
        // Whatever is still going on ends by itself.
        let late = now + Duration::from_secs(120);
        for peer in [alice, bob] {
            let mut outbox = Outbox::default();
            while let Some(work) = peer.context.expired(late) {
                let _ = work.run(late, &*peer.store, &mut outbox);
            }
            let stats = peer.stats();
            assert_eq!((stats.pending_handshakes, stats.key_ids), (0, stats.sessions), "node {}", peer.node);
        }
    });
}

/// Runs a piece of work whose session is stored under a name of its own; what is to be sent.
fn run((peer, now): (&Peer, Instant), work: Handshake, (number, round): (u8, u8)) -> Vec<Vec<u8>> {
    let mut outbox = Outbox::default();
    let _ = work.run(now, &*peer.store, &mut outbox);
    for event in core::mem::take(&mut outbox.events) {
        if let Event::Authorize(authorize) = event {
            let accepted = authorize.accept(PeerName::new(&[number, round]));
            let _ = accepted.run(now, &*peer.store, &mut outbox);
        }
    }
    outbox.transmits.iter().flat_map(|transmit| transmit.datagrams()).map(<[u8]>::to_vec).collect()
}

/// One direction of a session that is being rekeyed.
struct Lane<'a> {
    session: &'a Session,
    receiver: &'a Context,
    /// Where the sender is.
    from: Address,
    progress: [Progress; LANE],
}

/// Senders of a lane, and receivers.
const LANE: usize = 2;

/// What one sender has sealed, and how often each of it was delivered.
#[derive(Default)]
struct Progress {
    sealed: AtomicU32,
    delivered: Mutex<Vec<u32>>,
}

impl Progress {
    fn note(&self, number: u32) {
        let mut delivered = self.delivered.lock().unwrap();
        let number = number as usize;
        if delivered.len() <= number {
            delivered.resize(number + 1, 0);
        }
        delivered[number] += 1;
    }

    /// Whether everything that was sealed up to now has arrived by some later time.
    fn arrives(&self) -> impl Fn() -> bool {
        let sealed = self.sealed.load(Ordering::SeqCst) as usize;
        move || {
            let delivered = self.delivered.lock().unwrap();
            delivered.len() >= sealed && delivered[..sealed].iter().all(|times| *times > 0)
        }
    }
}

impl<'a> Lane<'a> {
    fn new(from: &'a Peer, to: &'a Peer) -> Self {
        let progress = Default::default();
        Self { session: from.session(), receiver: &to.context, from: from.address(), progress }
    }

    /// Seals payloads until all rekeyings are done.
    fn send(&self, sender: usize, receivers: &[SyncSender<Vec<u8>>], done: &AtomicBool) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(sender as u64);
        let mut buffer = vec![0; Session::sealed_len(8000, 400).unwrap()];
        let mut number = 0;
        while !done.load(Ordering::SeqCst) {
            let len = if random.random_bool(0.8) {
                random.random_range(8..300)
            } else {
                random.random_range(8..7500)
            };
            self.progress[sender].sealed.fetch_add(1, Ordering::SeqCst);
            let payload = payload(sender as u32, number, len);
            let sealed = self.session.seal(&payload, 400, &mut buffer).unwrap();
            for datagram in sealed.datagrams(&buffer) {
                receivers[random.random_range(0..LANE)].send(datagram.to_vec()).unwrap();
            }
            number += 1;
        }
    }

    /// Opens them.
    fn receive(&self, clock: &Clock, datagrams: &Receiver<Vec<u8>>) {
        let mut scratch = Scratch::new();
        let deliver = |received: Result<Received<'_>, Fault>| match received.unwrap() {
            Received::Nothing => false,
            Received::Payload { bytes, .. } => {
                let (sender, rest) = bytes.split_first_chunk().unwrap();
                let number = u32::from_be_bytes(*rest.first_chunk().unwrap());
                let sender = u32::from_be_bytes(*sender);
                assert_eq!(bytes, payload(sender, number, bytes.len()));
                self.progress[sender as usize].note(number);
                true
            }
            other => panic!("{other:?}"),
        };
        while let Ok(first) = datagrams.recv() {
            for mut datagram in core::iter::once(first).chain(datagrams.try_iter().take(IN_FLIGHT)) {
                deliver(self.receiver.receive(clock.now(), self.from, &mut datagram, &mut scratch));
            }
            while deliver(self.receiver.flush(clock.now(), &mut scratch)) {}
        }
    }
}

/// Tells all other threads to end when this one panics.
struct EndOnPanic<'a>(&'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// `starter` and `answerer` agree on another key, their packets undisturbed.
fn rekey(starter: &Peer, answerer: &Peer, now: Instant) {
    let work = starter.context.rekey(starter.session().id()).unwrap();
    let mut scratches = [Scratch::new(), Scratch::new()];
    let peers = [starter, answerer];
    let run = |peer: &Peer, work: Handshake| {
        let mut outbox = Outbox::default();
        work.run(now, &*peer.store, &mut outbox).unwrap();
        assert!(outbox.events.is_empty());
        let transmits = outbox.transmits.iter();
        transmits.flat_map(|transmit| transmit.datagrams()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let mut datagrams = run(starter, work);
    let mut receiver = 0;
    let mut packets = 0;
    while let Some(mut datagram) = datagrams.pop() {
        receiver = 1 - receiver;
        packets += 1;
        let from = peers[1 - receiver].address();
        let context = &peers[receiver].context;
        let received = context.receive(now, from, &mut datagram, &mut scratches[receiver]);
        let Ok(Received::Handshake(work)) = received else { panic!("{received:?}") };
        datagrams = run(peers[receiver], work);
    }
    assert_eq!(packets, 4, "K1, K2, C1, C2");
}

/// Two threads seal and two open in each direction, while another one rekeys fifty times.
//= ZSSP-ST-27  the two newest keys stay readable
//= ZSSP-ST-28  sending switches when the key is confirmed
//= ZSSP-ST-29  one counter for all keys
#[test]
fn payloads_flow_without_loss_while_the_session_rekeys() {
    const REKEYINGS: u32 = 50;
    seeds::run(2, |seed| {
        let mut pair = Pair::established(seed, &setup());
        let (alice, bob) = (&pair.alice, &pair.bob);
        let lanes = [Lane::new(alice, bob), Lane::new(bob, alice)];
        let (clock, done) = (Clock::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            for lane in &lanes {
                let (inputs, outputs): (Vec<_>, Vec<_>) = (0..LANE).map(|_| sync_channel(IN_FLIGHT)).unzip();
                for datagrams in outputs {
                    let clock = &clock;
                    let done = &done;
                    scope.spawn(move || {
                        let _end = EndOnPanic(done);
                        lane.receive(clock, &datagrams);
                    });
                }
                for sender in 0..LANE {
                    let (inputs, done) = (inputs.clone(), &done);
                    scope.spawn(move || {
                        let _end = EndOnPanic(done);
                        lane.send(sender, &inputs, done);
                    });
                }
            }
            let _end = EndOnPanic(&done);
            for rekeying in 0..REKEYINGS {
                let (starter, answerer) = if rekeying % 3 == 0 { (alice, bob) } else { (bob, alice) };
                rekey(starter, answerer, clock.now());
                // Two keys are readable: what was sealed under the older one must not be on its way any more.
                for progress in lanes.iter().flat_map(|lane| &lane.progress) {
                    let arrives = progress.arrives();
                    while !arrives() {
                        assert!(!done.load(Ordering::SeqCst), "another thread has panicked");
                        thread::yield_now();
                    }
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        for progress in lanes.iter().flat_map(|lane| &lane.progress) {
            let (sealed, delivered) =
                (progress.sealed.load(Ordering::SeqCst), progress.delivered.lock().unwrap());
            assert!(sealed >= REKEYINGS);
            assert_eq!(*delivered, vec![1; sealed as usize], "each once");
        }
        let stored = pair.alice.store.remembered(pair.bob.public_key());
        assert_eq!(stored.first.chain_length(), u64::from(1 + REKEYINGS));
        (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
        // Deadlines of fragments that have found their packet.
        pair.drive_for(Duration::from_secs(6));
        pair.assert_steady("after fifty keys");
    });
}

/// What one thread has of a packet waits in its scratch while another thread gets all of it. So it comes out whole once
/// more, and is decrypted before the replay window can say that it was delivered.
//= ZSSP-RPL-03  recording is the decision
//= ZSSP-SEC-03  nothing is accepted twice
#[test]
fn a_payload_that_another_thread_was_quicker_to_deliver_is_not_shown_again() {
    let pair = Pair::established(1, &setup());
    let (context, now, from) = (&pair.bob.context, pair.now(), pair.alice.address());
    let payload = [0x5a; 500];
    let mut buffer = vec![0; Session::sealed_len(payload.len(), 400).unwrap()];
    let sealed = pair.alice.session().seal(&payload, 400, &mut buffer).unwrap();
    let [first, second] = sealed.datagrams(&buffer).collect::<Vec<_>>()[..] else { panic!("two fragments") };

    let mut scratches = [(); 3].map(|()| Scratch::new());
    let mut received = Vec::new();
    let mut give = |scratch: &mut Scratch, bytes| {
        let received = context.receive_into(now, Datagram { from, bytes }, scratch, &mut received);
        matches!(received.unwrap(), Received::Payload { .. })
    };
    let [early, late, quick] = &mut scratches;
    let delivered = [give(early, first), give(late, second), give(quick, first), give(quick, second)];
    assert_eq!(delivered, [false, false, false, true]);
    assert_eq!(received, payload);

    received.clear();
    assert!(matches!(context.flush_into(now, early, &mut received), Ok(Received::Nothing)));
    assert!(matches!(context.flush_into(now, late, &mut received), Err(Fault::Replayed)));
    assert!(
        !received.windows(16).any(|bytes| bytes == [0x5a; 16]),
        "plaintext of a packet that was not delivered: {received:?}"
    );
}
