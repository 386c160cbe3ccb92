//! One session per peer (PROTOCOL 5.7): who has which, and who gives way to whom.

use std::collections::HashMap;

use crate::ratchet::PeerName;
use crate::session::SessionId;

/// The sessions of each peer, by the name the application gives it.
#[derive(Default)]
pub(super) struct Peers {
    slots: HashMap<PeerName, Slot>,
    /// Counts what happens, so that of two things it is known which came first.
    moment: u64,
}

/// What there is with one peer.
#[derive(Default)]
struct Slot {
    /// What this side is opening.
    attempt: Option<SessionId>,
    /// What is open.
    open: Option<OpenSession>,
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
        if slot.attempt.is_none() && slot.open.is_none() {
            self.slots.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
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
}
