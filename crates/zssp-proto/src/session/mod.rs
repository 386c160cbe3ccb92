//! An established session's data path: any number of threads seal and open packets of one session at once.
//!
//! What they share is one immutable key ring behind an atomic pointer, one send counter, of which each thread takes a
//! few at a time, and one lock-free replay window (PROTOCOL 3.4, 5.1, 5.3). No step takes a lock or allocates.

mod keys;
mod open;
mod replay;
mod seal;
mod usage;

use core::fmt;
use std::sync::{Arc, Weak};

pub(crate) use keys::{KeyEpoch, KeyRing, KeyUse, Sealing};
pub use seal::{SealError, Sealed};
pub(crate) use usage::{Usage, Used};

use crate::address::Address;
use crate::context::{Ingress, Inner};
use crate::identity::PublicKey;
use crate::suite::Suite;
use crate::sync::{ArcSwapOption, AtomicBool, Ordering, RankedMutex, rank};
use crate::wire::KeyId;
use crate::zke::keys::Role;
use crate::zke::state::HeaderKeys;
use replay::ReplayWindow;
pub(crate) use replay::Window;

/// A session's place in its context: a dense index, so that an application's own table can be a plain vector,
/// and a generation, so that a stale one is never taken for its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Tells apart the sessions that one [`SessionId`] stood for, one after the other.
///
/// An id is given out when a session is opened. Where the handshake begins anew after the peer could already send
/// (PROTOCOL 5.3, A3 to A1), the session that comes about in the end is another one than the peer sent in at first, and
/// what came in that one must not be taken for a part of it: compare the incarnation of a
/// [`Received::Payload`](crate::Received::Payload) kept until the session is there with
/// [`Session::incarnation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(KeyId);

impl SessionId {
    /// Below the largest number of sessions the context ever had at once.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Which of the sessions that had this index in turn.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// An established session: a cheap handle, to be cloned into every thread that seals.
///
/// Dropping all handles does not end the session, which belongs to its context; [`Context::close`] does.
///
/// [`Context::close`]: crate::Context::close
#[derive(Clone)]
//= ZSSP-DEF-06  the last handle frees memory and takes no lock
pub struct Session(pub(crate) Arc<Shared>);

impl Session {
    /// The id under which [`Context::receive`](crate::Context::receive) names this session.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Which of the sessions under its [`id`](Self::id) this one is.
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }

    /// The peer's static key, proven by the handshake.
    pub fn peer_key(&self) -> PublicKey {
        self.0.peer
    }

    /// Which side of the handshake this side was.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// What the session's handshake was made of.
    pub fn suite(&self) -> Suite {
        self.0.suite
    }

    /// Whether the session had to begin without the ratchet state this side expected: the peer has lost its ratchet, or
    /// somebody who has stolen its static key pretends so (PROTOCOL 5.5). An
    /// [`Event::Downgraded`](crate::Event::Downgraded) has said so when it happened.
    ///
    /// The initiator's session says it of all handshakes that its opening took. To the responder each of them is a session
    /// of its own, which takes the place of the one before and begins from its ratchet: only the first says it, and that
    /// may be over before anything came in it. In the same way a thief who was let in once has a ratchet from then on.
    /// Find out about the peer when it is said, or have the [policy](crate::Policy) refuse.
    pub fn is_downgraded(&self) -> bool {
        self.0.downgraded
    }

    /// Whether the session has ended. Its [`Event::Ended`](crate::Event::Ended) may be under way yet, with another thread.
    pub fn has_ended(&self) -> bool {
        self.0.keys.load().is_none()
    }

    /// Where the peer is, as far as this side knows, and where it sends what it begins by itself (PROTOCOL 5.3): the address
    /// that the first hello went to or came from, that of the last round trip of a rekeying, or what
    /// [`set_address`](Self::set_address) said. A packet alone does not change it, for anybody may have sent it on. Somebody
    /// who keeps the peer's packets back and sends them on himself does; the next rekeying then finds the peer where it was
    /// before, or where the session opened.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Has the peer be at `address` from now on. That an authentic payload came from there does not prove it: whoever
    /// sees packets can send them on, and be quicker.
    pub fn set_address(&self, address: Address) {
        self.0.whereabouts.lock().move_to(address);
    }

    /// Packets sealed so far, of every kind, and those that failed at it. Exact while no thread seals; otherwise it may be
    /// a few off, and less than a moment ago.
    pub fn packets_sealed(&self) -> u64 {
        self.0.usage.packets(self.0.role)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.0.id)
            .field("peer", &self.0.peer)
            .field("suite", &self.0.suite)
            .finish_non_exhaustive()
    }
}

/// What all threads share of a session.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    /// Made of the first key id under which the peer sends, which each new handshake draws.
    pub(crate) incarnation: Incarnation,
    pub(crate) peer: PublicKey,
    pub(crate) role: Role,
    pub(crate) suite: Suite,
    downgraded: bool,
    whereabouts: RankedMutex<{ rank::ADDRESS }, Whereabouts>,
    /// Whether the application wants another key than the one that is in use or being confirmed. It is set under the lock of
    /// the session's state, and looked at there when a state is put in its place; taken back only by the task that has the
    /// state, which is on the way to another key then. So what threads race for is decided by that lock.
    rekey_wanted: AtomicBool,
    pub(crate) ingress: Ingress,
    /// `None` once the session has ended.
    //= ZSSP-DEF-11  no pool of contexts: the keys themselves are shared
    keys: ArcSwapOption<KeyRing>,
    /// Told when the key's bounds are reached.
    context: Weak<Inner>,
    pub(crate) usage: Usage,
    window: ReplayWindow,
}

/// Where the peer is, as far as this side knows, and where else it may be.
struct Whereabouts {
    now: Address,
    /// Few sessions ever move, and each would have to keep room for it.
    others: Option<Box<Others>>,
}

struct Others {
    second: Second,
    /// Where the session opened. A peer that has not moved is there, however many rekeyings somebody has sent on.
    first: Address,
}

/// Where a peer may be besides.
enum Second {
    /// Where it was just before it moved: it is there if somebody has sent on one rekeying since.
    Was(Address),
    /// Where the last packet came from that came from elsewhere, as long as the peer has not moved: it is there if somebody has
    /// sent on the whole handshake. K1 goes there once for such a packet, since nobody may be there.
    Seen { at: Address, is_asked: bool },
}

impl Second {
    /// Where a copy of K1 goes, if one may.
    fn ask(&mut self) -> Option<Address> {
        match self {
            Self::Was(address) => Some(*address),
            Self::Seen { at, is_asked } => (!core::mem::replace(is_asked, true)).then_some(*at),
        }
    }
}

impl Whereabouts {
    fn move_to(&mut self, address: Address) {
        if self.now != address {
            let before = core::mem::replace(&mut self.now, address);
            let first = self.others.as_ref().map_or(before, |others| others.first);
            self.others = Some(Box::new(Others { second: Second::Was(before), first }));
        }
    }
}

/// What a new session knows of itself.
pub(crate) struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) peer: PublicKey,
    pub(crate) role: Role,
    pub(crate) suite: Suite,
    pub(crate) downgraded: bool,
    pub(crate) address: Address,
    pub(crate) header: HeaderKeys,
    pub(crate) context: Weak<Inner>,
}

impl Shared {
    pub(crate) fn new(new: NewSession, epoch: Sealing) -> Self {
        Self {
            id: new.id,
            incarnation: Incarnation(epoch.epoch.local_kid),
            peer: new.peer,
            role: new.role,
            suite: new.suite,
            downgraded: new.downgraded,
            whereabouts: RankedMutex::new(Whereabouts { now: new.address, others: None }),
            rekey_wanted: AtomicBool::new(false),
            ingress: Ingress::new(new.header),
            keys: ArcSwapOption::from_pointee(KeyRing::new(epoch)),
            context: new.context,
            usage: Usage::new(new.role),
            window: ReplayWindow::new(),
        }
    }

    /// Where the peer is.
    pub(crate) fn address(&self) -> Address {
        self.whereabouts.lock().now
    }

    /// Where a copy of K1 goes, when so many went out before.
    //= ZSSP-ST-35  whoever sent on a rekeying, and made this side take him for the peer, may be gone
    pub(crate) fn asking(&self, copies: u32) -> Address {
        let mut whereabouts = self.whereabouts.lock();
        let now = whereabouts.now;
        match (&mut whereabouts.others, copies % 4) {
            (Some(others), 1) => others.second.ask().unwrap_or(now),
            (Some(others), 3) => others.first,
            _ => now,
        }
    }

    /// A packet has come from the peer, by way of `from`.
    //= ZSSP-ST-35  as long as it has had but one address
    pub(crate) fn seen(&self, from: Address) {
        let mut whereabouts = self.whereabouts.lock();
        let now = whereabouts.now;
        let seen = Second::Seen { at: from, is_asked: false };
        match &mut whereabouts.others {
            _ if now.follow(from) == now => {}
            None => whereabouts.others = Some(Box::new(Others { second: seen, first: now })),
            Some(others) if matches!(others.second, Second::Seen { .. }) => others.second = seen,
            Some(_) => {}
        }
    }

    /// The session's address, if what came from `from` came from elsewhere.
    pub(crate) fn unless_here(&self, from: Address) -> Option<Address> {
        let now = self.address();
        (now.follow(from) != now).then_some(now)
    }

    /// The peer has answered what was sent to `from`, and from there.
    //= ZSSP-ST-34  a round trip says where the peer is
    pub(crate) fn answered_from(&self, from: Address) {
        let mut whereabouts = self.whereabouts.lock();
        let address = whereabouts.now.follow(from);
        whereabouts.move_to(address);
    }

    /// Drops the keys; everything sealed or opened afterwards is refused. Returns their key ids.
    pub(crate) fn end(&self) -> Vec<KeyId> {
        self.keys.swap(None).iter().flat_map(|ring| ring.local_kids()).collect()
    }

    /// The keys; `None` when the session has ended.
    pub(crate) fn ring(&self) -> Option<Arc<KeyRing>> {
        self.keys.load_full()
    }

    /// Publishes another ring, and returns the key ids that nothing can be read under any more: all of its own, if the
    /// session has ended. Only the task that has the session's state does this.
    pub(crate) fn publish(&self, ring: KeyRing) -> Vec<KeyId> {
        let kids: Vec<KeyId> = ring.local_kids().collect();
        let before = self.keys.load_full();
        // Nobody else publishes: where this finds another ring, it finds that the session has ended.
        let is_published = before.is_some() && {
            let found = self.keys.compare_and_swap(&before, Some(Arc::new(ring)));
            found.is_some()
        };
        if is_published {
            before.iter().flat_map(|ring| ring.local_kids()).filter(|kid| !kids.contains(kid)).collect()
        } else {
            kids
        }
    }

    /// Has the next packet be so many later, as if they had been sealed.
    #[cfg(test)]
    pub(crate) fn advance_counter(&self, uses: u64) {
        self.usage.advance(Used::none(self.role).packets + uses);
    }

    /// Has so many blocks be left to the bound of the key in use, as if all before them had been sealed.
    #[cfg(test)]
    pub(crate) fn leave_blocks(&self, blocks: u64) {
        if let Some(ring) = self.ring() {
            self.usage.set_blocks(ring.current().used_until(blocks));
        }
    }

    /// Has the peer's packets be as far, as if they had been received.
    #[cfg(test)]
    pub(crate) fn expect_counter(&self, counter: u64) {
        self.window.raise(counter);
    }

    /// The application wants another key, as soon as the session can agree on one.
    pub(crate) fn want_rekey(&self) {
        self.rekey_wanted.store(true, Ordering::Relaxed);
    }

    /// Another key is being agreed on, whoever wanted it.
    pub(crate) fn rekeying(&self) {
        self.rekey_wanted.store(false, Ordering::Relaxed);
    }

    /// Whether the application wants another key, and waits for it.
    pub(crate) fn is_rekey_wanted(&self) -> bool {
        self.rekey_wanted.load(Ordering::Relaxed)
    }

    /// Whether the application or the bounds of the key in use call for another one.
    pub(crate) fn is_rekey_due(&self) -> bool {
        self.is_rekey_wanted()
            || self.keys.load().as_ref().is_some_and(|ring| ring.current().is_rekey_due(self.usage.so_far()))
    }

    /// Whether the key in use is used up.
    pub(crate) fn is_used_up(&self) -> bool {
        self.keys.load().as_ref().is_some_and(|ring| ring.current().is_used_up(self.usage.so_far().packets))
    }

    /// Has the session's deadline come at once, for the bounds of its key are reached.
    pub(crate) fn wake(&self, epoch: &KeyEpoch) {
        if let Some(context) = self.context.upgrade() {
            context.schedule(self.id, epoch.since);
        }
    }
}

#[cfg(all(test, loom))]
pub(crate) mod loom_models;
