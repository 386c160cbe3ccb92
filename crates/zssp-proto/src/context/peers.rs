//! One session per peer (PROTOCOL 5.7): who has which, and who gives way to whom.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::ratchet::{Fingerprint, PeerName};
use crate::session::SessionId;

/// The sessions of each peer, by the name the application gives it.
#[derive(Default)]
pub(super) struct Peers {
    slots: HashMap<PeerName, Slot>,
    /// Whose slot is kept only because it is not settled, in the order in which their attempts ended. Above
    /// [`MAX_LEFT`] the first is dropped, and `unsettled` stands for it.
    left: VecDeque<(PeerName, Instant)>,
    /// Before when nobody is settled who has no slot.
    unsettled: Option<Instant>,
    /// The sessions that are rekeying (R1), by the fingerprint of the ratchet state that they began from.
    rekeying: HashMap<[u8; Fingerprint::LEN], SessionId>,
    /// The ratchet states that X3s were made with whose outcome is being written, and how many each.
    accepting: HashMap<[u8; Fingerprint::LEN], usize>,
    /// When the latest hello came that names a ratchet state.
    latest_hello: Option<Instant>,
    /// Counts what happens, so that of two things it is known which came first.
    moment: u64,
}

/// How many peers are remembered for an attempt that is over.
const MAX_LEFT: usize = 1024;

/// What there is with one peer.
#[derive(Default)]
struct Slot {
    /// What this side is opening.
    attempt: Option<SessionId>,
    /// What is open.
    open: Option<OpenSession>,
    /// Until when the peer may read an X3 that it has not confirmed, even if the attempt it is from is over.
    unsettled: Option<Instant>,
}

impl Slot {
    fn is_unused(&self) -> bool {
        self.attempt.is_none() && self.open.is_none()
    }
}

#[derive(Clone, Copy)]
struct OpenSession {
    id: SessionId,
    opened_by: Side,
    since: Moment,
}

/// When something happened, seen from this context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// Who opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Here,
    There,
}

/// Whose session survives when both sides open at once: that of the side with the larger static key.
//= ZSSP-ONE-03  the session opened by the side with the larger key survives on both sides
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Precedence(pub(super) Side);

/// What becomes of a session that the peer opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may open, in the place of whatever there is with the peer then.
    Admitted,
    /// This side opened one at the same time, and that survives.
    Yield,
}

impl Peers {
    /// Notes that something happened.
    pub(super) fn moment(&mut self) -> Moment {
        self.moment += 1;
        Moment(self.moment)
    }

    /// An attempt begins; `Err` names the one that there is.
    pub(super) fn begin(&mut self, peer: &PeerName, id: SessionId) -> Result<(), SessionId> {
        let slot = self.slots.entry(peer.clone()).or_default();
        match slot.attempt {
            Some(other) => Err(other),
            None => {
                slot.attempt = Some(id);
                Ok(())
            }
        }
    }

    /// An attempt is about to send X3, which the peer may read until then. Nothing is sent if the attempt is over.
    pub(super) fn completing(&mut self, peer: &PeerName, id: SessionId, until: Instant) {
        if let Some(slot) = self.slots.get_mut(peer).filter(|slot| slot.attempt == Some(id)) {
            slot.unsettled = slot.unsettled.max(Some(until));
        }
    }

    /// Before when the peer may have read an X3 that it has not confirmed.
    pub(super) fn unsettled(&self, peer: &PeerName) -> Option<Instant> {
        self.slots.get(peer).and_then(|slot| slot.unsettled).max(self.unsettled)
    }

    /// Forgets X3s that nobody can read any more.
    pub(super) fn forget_settled(&mut self, now: Instant) {
        while self.left.front().is_some_and(|(_, until)| *until <= now) {
            self.forget_first();
        }
    }

    /// Forgets who has been left for longest, if there is nothing else with them and no later X3.
    fn forget_first(&mut self) -> Option<Instant> {
        let (peer, until) = self.left.pop_front()?;
        let slot = self.slots.get(&peer)?;
        if !slot.is_unused() || slot.unsettled != Some(until) {
            return None;
        }
        self.slots.remove(&peer);
        Some(until)
    }

    /// A session is about to send K1.
    pub(super) fn rekeying(&mut self, from: &Fingerprint, id: SessionId) {
        self.rekeying.insert(*from.as_bytes(), id);
    }

    /// A session's rekeying is over, one way or the other.
    pub(super) fn rekeyed(&mut self, from: &Fingerprint) {
        self.rekeying.remove(from.as_bytes());
    }

    /// Which session is rekeying from this ratchet state.
    pub(super) fn rekeying_from(&self, fingerprint: &Fingerprint) -> Option<SessionId> {
        self.rekeying.get(fingerprint.as_bytes()).copied()
    }

    /// A hello that names this state is about to be answered. `false`: what comes of an X3 that was made with it is being
    /// written, so it may be gone by the time the answer arrives.
    pub(super) fn may_answer(&mut self, now: Instant, fingerprint: &Fingerprint) -> bool {
        self.latest_hello = self.latest_hello.max(Some(now));
        !self.accepting.contains_key(fingerprint.as_bytes())
    }

    /// What comes of an X3 that was made with this state is about to be written, until [`accepted`](Self::accepted). Returns
    /// the time: a hello that came later may have been answered with the state already.
    pub(super) fn accepting(&mut self, now: Instant, used: &Fingerprint) -> Instant {
        *self.accepting.entry(*used.as_bytes()).or_default() += 1;
        self.latest_hello.map_or(now, |latest| latest.max(now))
    }

    /// It is written, or will not be.
    pub(super) fn accepted(&mut self, used: &Fingerprint) {
        if let Entry::Occupied(mut entry) = self.accepting.entry(*used.as_bytes()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// How many sessions one that the peer opens would take the place of.
    pub(super) fn replaceable(&self, peer: &PeerName) -> usize {
        let slot = self.slots.get(peer);
        slot.map_or(0, |slot| usize::from(slot.attempt.is_some()) + usize::from(slot.open.is_some()))
    }

    /// What this side is opening with the peer.
    pub(super) fn attempt(&self, peer: &PeerName) -> Option<SessionId> {
        self.slots.get(peer)?.attempt
    }

    /// Whether a session that the peer began to open at `since` may go on. `stalled` is an attempt of this side that
    /// gets nowhere, so that nothing has to give way to it.
    pub(super) fn admit(
        &self,
        peer: &PeerName,
        (since, precedence): (Moment, Precedence),
        stalled: Option<SessionId>,
    ) -> Admission {
        let Some(slot) = self.slots.get(peer) else { return Admission::Admitted };
        let ours_survives = precedence == Precedence(Side::Here);
        // The peer opened it before it knew of ours: both opened at once, and ours was quicker.
        let crossed = slot.open.is_some_and(|open| open.opened_by == Side::Here && since < open.since);
        let attempt = slot.attempt.filter(|attempt| Some(*attempt) != stalled);
        if ours_survives && (attempt.is_some() || crossed) { Admission::Yield } else { Admission::Admitted }
    }

    /// A session is open. Returns those it takes the place of: the one before it, and, where the peer opened it, what
    /// this side was opening itself. `None` when it is an attempt of this side that has ended meanwhile, or that
    /// another session has taken the place of.
    //= ZSSP-ONE-02  accepting a session ends the previous one with that peer
    pub(super) fn opened(
        &mut self,
        peer: &PeerName,
        id: SessionId,
        opened_by: Side,
    ) -> Option<[Option<SessionId>; 2]> {
        if opened_by == Side::Here && self.slots.get(peer).is_none_or(|slot| slot.attempt != Some(id)) {
            return None;
        }
        let since = self.moment();
        let slot = self.slots.entry(peer.clone()).or_default();
        let attempt = slot.attempt.take().filter(|attempt| *attempt != id);
        if opened_by == Side::Here {
            // It has read the last X3, and with the state that came of it none of the earlier ones fits.
            slot.unsettled = None;
        }
        let before = slot.open.replace(OpenSession { id, opened_by, since }).map(|before| before.id);
        Some([before, attempt])
    }

    /// A session or an attempt has ended.
    pub(super) fn ended(&mut self, peer: &PeerName, id: SessionId) {
        let Some(slot) = self.slots.get_mut(peer) else { return };
        if slot.attempt == Some(id) {
            slot.attempt = None;
        }
        if slot.open.is_some_and(|open| open.id == id) {
            slot.open = None;
        }
        if !slot.is_unused() {
            return;
        }
        let Some(until) = slot.unsettled else {
            self.slots.remove(peer);
            return;
        };
        self.left.push_back((peer.clone(), until));
        if self.left.len() > MAX_LEFT {
            let dropped = self.forget_first();
            self.unsettled = self.unsettled.max(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zssp_sim::Clock;

    use super::*;

    const fn id(index: u32) -> SessionId {
        SessionId { index, generation: 0 }
    }

    fn peer() -> PeerName {
        PeerName::new(b"peer")
    }

    #[test]
    fn one_attempt_at_a_time() {
        let mut peers = Peers::default();
        assert_eq!(peers.begin(&peer(), id(1)), Ok(()));
        assert_eq!(peers.begin(&peer(), id(2)), Err(id(1)));
        assert_eq!(peers.begin(&PeerName::new(b"other"), id(2)), Ok(()));
        peers.ended(&peer(), id(1));
        assert_eq!(peers.begin(&peer(), id(3)), Ok(()));
    }

    //= ZSSP-ONE-02  the previous session is named, to be ended
    #[test]
    fn a_new_session_takes_the_place_of_the_one_before() {
        let mut peers = Peers::default();
        assert_eq!(peers.opened(&peer(), id(1), Side::There), Some([None, None]));
        assert_eq!(peers.begin(&peer(), id(2)), Ok(()));
        assert_eq!(peers.opened(&peer(), id(2), Side::Here), Some([Some(id(1)), None]));
        peers.ended(&peer(), id(1));
        assert_eq!(peers.begin(&peer(), id(3)), Ok(()));
        assert_eq!(peers.opened(&peer(), id(4), Side::There), Some([Some(id(2)), Some(id(3))]));
        peers.ended(&peer(), id(2));
        peers.ended(&peer(), id(3));
        peers.ended(&peer(), id(4));
        assert!(peers.slots.is_empty());
    }

    /// Two tasks confirm a session each; whichever comes to this table last, one of them is left.
    //= ZSSP-ONE-02  one session per peer
    #[test]
    fn an_attempt_that_was_replaced_or_closed_replaces_nothing() {
        let mut peers = Peers::default();
        assert_eq!(peers.begin(&peer(), id(1)), Ok(()));
        assert_eq!(peers.opened(&peer(), id(2), Side::There), Some([None, Some(id(1))]));
        assert_eq!(peers.opened(&peer(), id(1), Side::Here), None);
        peers.ended(&peer(), id(1));
        assert_eq!(peers.begin(&peer(), id(3)), Ok(()));
        peers.ended(&peer(), id(3));
        assert_eq!(peers.opened(&peer(), id(3), Side::Here), None);
        peers.ended(&peer(), id(2));
        assert!(peers.slots.is_empty());
    }

    //= ZSSP-ONE-03  an attempt of ours gives way, or does not
    #[test]
    fn attempts_that_cross_are_settled_by_precedence() {
        let mut peers = Peers::default();
        let theirs = peers.moment();
        assert_eq!(peers.begin(&peer(), id(1)), Ok(()));
        assert_eq!(peers.admit(&peer(), (theirs, Precedence(Side::Here)), None), Admission::Yield);
        assert_eq!(peers.admit(&peer(), (theirs, Precedence(Side::There)), None), Admission::Admitted);
        let stalled = peers.attempt(&peer());
        assert_eq!(peers.admit(&peer(), (theirs, Precedence(Side::Here)), stalled), Admission::Admitted);
        peers.ended(&peer(), id(1));
        assert_eq!(peers.admit(&peer(), (theirs, Precedence(Side::Here)), None), Admission::Admitted);
    }

    //= ZSSP-ONE-03  a session that crossed with one that is open already gives way to it
    #[test]
    fn an_attempt_from_before_our_session_opened_gives_way_but_a_later_one_does_not() {
        let mut peers = Peers::default();
        let crossed = peers.moment();
        assert_eq!(peers.begin(&peer(), id(1)), Ok(()));
        assert_eq!(peers.opened(&peer(), id(1), Side::Here), Some([None, None]));
        let later = peers.moment();
        assert_eq!(peers.admit(&peer(), (crossed, Precedence(Side::Here)), None), Admission::Yield);
        assert_eq!(peers.admit(&peer(), (crossed, Precedence(Side::There)), None), Admission::Admitted);
        assert_eq!(peers.admit(&peer(), (later, Precedence(Side::Here)), None), Admission::Admitted);
    }

    //= ZSSP-RAT-24  also after the attempt
    #[test]
    fn a_peer_is_unsettled_until_it_confirms_or_its_time_has_come() {
        let now = Clock::new().now();
        let until = now + Duration::from_secs(10);
        let mut peers = Peers::default();
        assert_eq!(peers.begin(&peer(), id(1)), Ok(()));
        peers.completing(&peer(), id(2), until);
        assert_eq!(peers.unsettled(&peer()), None, "that attempt was over");
        peers.completing(&peer(), id(1), until);
        peers.ended(&peer(), id(1));
        assert_eq!(peers.unsettled(&peer()), Some(until));
        peers.forget_settled(now);
        assert_eq!(peers.unsettled(&peer()), Some(until));

        // Another attempt, over as well: it says when.
        assert_eq!(peers.begin(&peer(), id(3)), Ok(()));
        let later = until + Duration::from_secs(1);
        peers.completing(&peer(), id(3), later);
        peers.forget_settled(until);
        peers.ended(&peer(), id(3));
        assert_eq!(peers.unsettled(&peer()), Some(later));

        assert_eq!(peers.begin(&peer(), id(4)), Ok(()));
        assert_eq!(peers.opened(&peer(), id(4), Side::Here), Some([None, None]));
        assert_eq!(peers.unsettled(&peer()), None);
        peers.ended(&peer(), id(4));
        peers.forget_settled(later);
        assert!(peers.slots.is_empty() && peers.left.is_empty());
    }

    //= ZSSP-RAT-26  not answered while it is written, and not accepted once it is too late for a later hello
    #[test]
    fn a_state_is_not_given_away_while_it_is_replaced() {
        let (now, later) = (Clock::new().now(), Clock::new().now() + Duration::from_secs(1));
        let [state, other] = [1, 2].map(|byte| Fingerprint::new([byte; Fingerprint::LEN]));
        let mut peers = Peers::default();
        assert!(peers.may_answer(now, &state));
        assert_eq!(peers.accepting(now, &state), now);
        assert!(!peers.may_answer(later, &state) && peers.may_answer(now, &other));
        assert_eq!(peers.accepting(now, &state), later);
        peers.accepted(&state);
        assert!(!peers.may_answer(now, &state), "there is another");
        peers.accepted(&state);
        assert!(peers.may_answer(now, &state) && peers.accepting.is_empty());
    }

    //= ZSSP-SEC-04  memory is bounded
    #[test]
    fn of_too_many_unsettled_peers_some_are_forgotten_and_none_is_taken_for_settled() {
        let now = Clock::new().now();
        let mut peers = Peers::default();
        let name = |number: u32| PeerName::new(&number.to_be_bytes());
        let until = |number: u32| now + Duration::from_millis(u64::from(number));
        for number in 0..5000 {
            assert_eq!(peers.begin(&name(number), id(number)), Ok(()));
            peers.completing(&name(number), id(number), until(number));
            peers.ended(&name(number), id(number));
        }
        assert_eq!((peers.slots.len(), peers.left.len()), (MAX_LEFT, MAX_LEFT));
        assert!((0..5000).all(|number| peers.unsettled(&name(number)) >= Some(until(number))));
        assert_eq!(peers.unsettled(&name(5000)), Some(until(4999 - MAX_LEFT as u32)));
        peers.forget_settled(until(5000));
        assert!(peers.slots.is_empty() && peers.left.is_empty());
    }
}
