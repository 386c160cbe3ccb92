//! Interleavings of a thread that reads datagrams, remembers a route and opens with it, with one that changes the routes
//! and the keys behind them.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::error::Fault;
use crate::ratchet::PeerName;
use crate::session::loom_models::{epoch, kid, packet, session};
use crate::zke::state::Phase;

/// Where the next datagram goes, as `Context::receive` finds out.
fn look_up(routes: &Routes, recent: &mut Recent, kid: KeyId) -> Option<*const Shared> {
    let shared = |route: &Route| match route {
        Route::Session(inbound) => Some(Arc::as_ptr(&inbound.shared)),
        _ => None,
    };
    let version = routes.version();
    if let Some(route) = recent.route(kid, version) {
        return shared(route);
    }
    let found = routes.with(kid, |entry| {
        recent.remember(kid, version, entry);
        shared(&entry.route)
    });
    found.flatten()
}

fn cell(shared: &Shared) -> Arc<Cell> {
    Arc::new(Cell::new(shared.id, shared.peer, PeerName::new(b"peer"), Phase::Closed))
}

fn inbound() -> Inbound {
    let shared = session();
    let epoch = shared.ring().expect("a ring").current().clone();
    Inbound::new(&shared, &epoch, &cell(&shared))
}

/// Opens a packet of this epoch, as `Context::receive` does: `None` when its key id leads nowhere.
fn open(routes: &Routes, number: u8, counter: u64) -> Option<Result<(), Fault>> {
    let (nonce, mut packet) = packet(number, counter);
    let opened = routes.with(kid(number), |entry| {
        let Route::Session(Inbound { shared, open, .. }) = &entry.route else { return None };
        shared.check_counter(nonce).err().map(Err).or_else(|| {
            Some(
                shared
                    .open_payload(&**open, nonce, &mut packet)
                    .map(|payload| assert_eq!(payload, b"payload")),
            )
        })
    });
    opened.flatten()
}

/// Once a change is done, nobody is led by what was there before: neither to a session that is over, nor past its
/// successor under the same key id.
#[test]
fn loom_a_remembered_route_is_never_outdated() {
    for replaced in [false, true] {
        loom::model(move || {
            let kid = kid(7);
            let (old, new) = (inbound(), inbound());
            let [before, after] = [&old, &new].map(|inbound| Arc::as_ptr(&inbound.shared));
            let expected = replaced.then_some(after);
            let (routes, done) = (Arc::new(Routes::new()), Arc::new(AtomicBool::new(false)));
            routes.set(kid, Route::Session(old));
            let changing = {
                let (routes, done) = (routes.clone(), done.clone());
                thread::spawn(move || {
                    if replaced {
                        routes.set(kid, Route::Session(new));
                    } else {
                        routes.remove(kid);
                    }
                    done.store(true, Ordering::Release);
                })
            };
            let mut recent = Recent::default();
            for _ in 0..4 {
                let done = done.load(Ordering::Acquire);
                let found = look_up(&routes, &mut recent, kid);
                assert!(found == expected || !done && found == Some(before));
            }
            changing.join().expect("the thread does not panic");
            assert_eq!(look_up(&routes, &mut recent, kid), expected);
        });
    }
}

/// Packets arrive while the session rekeys: under a key id that leads to it they open, once, whichever key is in use. Only
/// that of the key before the last may lead nowhere, and then for good.
//= ZSSP-ST-27  the two newest keys stay readable
#[test]
fn loom_opening_while_the_key_changes() {
    loom::model(|| {
        let (shared, routes) = (session(), Arc::new(Routes::new()));
        let cell = cell(&shared);
        let first = shared.ring().expect("a ring").current().clone();
        routes.set(kid(1), Route::Session(Inbound::new(&shared, &first, &cell)));
        let opening = {
            let routes = routes.clone();
            thread::spawn(move || [open(&routes, 1, 0), open(&routes, 2, 1), open(&routes, 1, 0)])
        };
        for number in [2, 3] {
            let next = epoch(number, shared.usage.epoch_start());
            let ring = shared.ring().expect("a ring").with_next(next.clone());
            let dropped = shared.publish(ring);
            routes.set(kid(number), Route::Session(Inbound::new(&shared, &next.epoch, &cell)));
            dropped.into_iter().for_each(|kid| routes.remove(kid));
            let ring = shared.ring().expect("a ring").switched_to(next);
            assert_eq!(shared.publish(ring), []);
        }
        let [old, new, again] = opening.join().expect("the thread does not panic");
        assert!(matches!(old, None | Some(Ok(()))), "{old:?}");
        assert!(matches!(new, None | Some(Ok(()))), "{new:?}");
        match (old, again) {
            (_, None) | (Some(Ok(())), Some(Err(Fault::Replayed))) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(open(&routes, 1, 2), None);
        assert_eq!(open(&routes, 2, 3), Some(Ok(())));
        assert_eq!(open(&routes, 3, 4), Some(Ok(())));
    });
}

/// A packet that comes while the session ends is delivered once or not at all, and nothing is after the end.
#[test]
fn loom_opening_while_the_session_ends() {
    loom::model(|| {
        let (shared, routes) = (session(), Arc::new(Routes::new()));
        let first = shared.ring().expect("a ring").current().clone();
        routes.set(kid(1), Route::Session(Inbound::new(&shared, &first, &cell(&shared))));
        let opening = {
            let routes = routes.clone();
            thread::spawn(move || [open(&routes, 1, 0), open(&routes, 1, 0)])
        };
        shared.end().into_iter().for_each(|kid| routes.remove(kid));
        assert_eq!(open(&routes, 1, 1), None);
        match opening.join().expect("the thread does not panic") {
            [None, None] | [Some(Ok(())), None | Some(Err(Fault::Replayed))] => {}
            other => panic!("{other:?}"),
        }
    });
}
