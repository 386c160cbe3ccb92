//! Interleavings of a thread that reads datagrams, and remembers a route, with one that changes the routes.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::ratchet::PeerName;
use crate::session;
use crate::zke::state::Phase;

const KID: [u8; 4] = [7; 4];

/// Where the next datagram goes, as `Context::receive` finds out.
fn look_up(routes: &Routes, recent: &mut Recent, kid: KeyId) -> Option<*const Shared> {
    let shared = |route: &Route| match route {
        Route::Session(inbound) => Some(Arc::as_ptr(&inbound.shared)),
        _ => None,
    };
    let changes = routes.changes();
    if let Some(route) = recent.route(kid, changes) {
        return shared(route);
    }
    let found = routes.with(kid, |route| {
        recent.remember(kid, changes, route);
        shared(route)
    });
    found.flatten()
}

fn inbound() -> Inbound {
    let shared = session::loom_models::session();
    let cell = Cell::new(shared.id, shared.peer, PeerName::new(b"peer"), Phase::Closed);
    let epoch = shared.ring().expect("a ring").current.clone();
    Inbound::new(&shared, &epoch, &Arc::new(cell))
}

/// Once a change is done, nobody is led by what was there before: neither to a session that is over, nor past its
/// successor under the same key id.
#[test]
fn loom_a_remembered_route_is_never_outdated() {
    for replaced in [false, true] {
        loom::model(move || {
            let kid = KeyId::new(KID).expect("not zero");
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
