//! A session that is ended while a task works on it, which with a slow store can take long: it is over at once, for the
//! data path too (PROTOCOL 5.3, 5.7).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use zssp_harness::pair::{FlakyStore, Pair, Setup};
use zssp_proto::{
    Address, Context, EndReason, Event, Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState,
    RatchetStore, Received, Scratch, SealError, Session, StoreError, Swap,
};

/// What somebody does while a store writes.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// A store in the middle of whose next write something else happens.
#[derive(Default)]
struct SlowStore {
    store: MemoryStore,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl RatchetStore for SlowStore {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
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
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.store.compare_and_swap(peer, old, new)
    }
}

/// Closes the session; nothing is sealed in it any more, nor is what the peer has sealed delivered.
fn close(now: Instant, context: &Context, session: &Session, (from, mut payload): (Address, Vec<u8>)) {
    let closed = context.close(session.id());
    assert!(matches!(closed, Some(Event::Ended { reason: EndReason::Closed, .. })), "{closed:?}");
    let mut buffer = [0; 100];
    assert_eq!(session.seal(b"late", 1280, &mut buffer), Err(SealError::Closed));
    let mut scratch = Scratch::new();
    let received = context.receive(now, from, &mut payload, &mut scratch);
    assert!(!matches!(received, Ok(Received::Payload { .. })), "{received:?}");
    assert_eq!(context.stats().sessions, 0);
}

/// Alice closes the session while her store writes what came of the `nth` next write: K1 or K2 read, and C1.
#[test]
fn a_session_that_is_closed_during_a_write_is_closed_at_once() {
    for starts in [1, 2] {
        for write in [0, 1] {
            let meanwhile = Arc::<Mutex<Option<Meanwhile>>>::default();
            let mut pair = Pair::with(7, &Setup::default());
            let store = SlowStore { meanwhile: meanwhile.clone(), ..SlowStore::default() };
            pair.alice.store = Arc::new(FlakyStore::over(store));
            pair.alice.open(&pair.bob);
            pair.settle();
            let (context, session) = (pair.alice.context.clone(), pair.alice.session().clone());
            let mut buffer = [0; 100];
            let sealed = pair.bob.session().seal(b"under way", 1280, &mut buffer).unwrap();
            let payload = (pair.bob.address(), buffer[..sealed.len()].to_vec());
            let now = pair.now();
            let happened = Arc::<Mutex<bool>>::default();
            let close_it: Meanwhile = Box::new({
                let happened = happened.clone();
                move || {
                    close(now, &context, &session, payload);
                    *happened.lock().unwrap() = true;
                }
            });
            let closing: Meanwhile = if write == 0 {
                close_it
            } else {
                let meanwhile = meanwhile.clone();
                Box::new(move || *meanwhile.lock().unwrap() = Some(close_it))
            };
            *meanwhile.lock().unwrap() = Some(closing);
            if starts == 1 {
                pair.alice.rekey()
            } else {
                pair.bob.rekey()
            };
            pair.settle();
            // Who reads K2 writes once, who reads K1 twice.
            assert_eq!(*happened.lock().unwrap(), starts == 2 || write == 0, "{starts} {write}");
            if *happened.lock().unwrap() {
                let stats = pair.alice.stats();
                assert_eq!((stats.sessions, stats.key_ids), (0, 0), "{starts} {write}");
            }
        }
    }
}
