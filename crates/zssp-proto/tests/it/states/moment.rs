//! A pair one of whom is in a state, what it can get there, and what can be seen of it.

use std::time::Duration;

use zssp_harness::pair::{Forgery, Happening, KeyLog, Pair, Peer, Setup, ToyCurve};
use zssp_proto::crypto::PROVIDERS;
use zssp_proto::{EndReason, Open, PeerName};

/// How packets are named in the table, by their type.
const NAMES: [&str; 10] = ["X1", "X2", "X3", "C1", "C2", "K1", "K2", "D", "P", "challenge"];

/// What comes before a state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The peer has started to rekey, and this side has read K1.
    Answered,
    /// The application has closed the session.
    Closed,
    /// The peer has started to rekey, and this side has read K1 and C1.
    Confirmed,
    /// So many packets of the first handshake were delivered.
    Delivered(usize),
    /// This side has started to rekey, and has read K2.
    Finished,
    /// Alice has started to rekey, and both are certain of the new key.
    Rekeyed,
    /// This side has started to rekey, and the peer has read K1.
    Started,
    /// The same, after Alice has rekeyed once.
    StartedAgain,
}

impl Way {
    /// Whether there is a key before the latest that can still be read.
    const fn has_an_older_key(self) -> bool {
        matches!(self, Self::Answered | Self::Confirmed | Self::Finished | Self::Rekeyed | Self::StartedAgain)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Alice,
    Bob,
}

impl Who {
    const fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// A pair one of whom is in a state.
pub(super) struct Moment {
    pair: Pair,
    way: Way,
    who: Who,
    /// The key id under which that one is addressed.
    pub(super) kid: [u8; 4],
    /// The packet that an honest peer sends next: X2, X3, C1, C2 or K2.
    next: Option<Vec<u8>>,
    /// What the peer has sent so far and the one in the state has read, the latest last.
    read: Vec<Vec<u8>>,
    /// Packets under the key before the latest, where there are two, by their types.
    older: Vec<(u8, Vec<u8>)>,
    /// A payload that is still under way.
    late: Option<Vec<u8>>,
    /// The C2 of the one who has just read C1; it is lost, unless the peer needs it.
    held: Option<Vec<u8>>,
}

impl Moment {
    pub(super) fn reach((_, way, who): (&str, Way, Who)) -> Self {
        let delivered = if let Way::Delivered(delivered) = way { delivered } else { 5 };
        let mut pair = Pair::with(1, &Setup { beneath: Some(ToyCurve::fastest()), ..Setup::default() });
        let open = Open::to(pair.bob.public_key(), pair.bob.address()).give_up_after(None);
        pair.alice.open_with(open).unwrap();
        for _ in 0..delivered {
            pair.pump();
            assert!(pair.deliver(None));
        }
        let read = Vec::new();
        let mut moment =
            Self { pair, way, who, kid: [0; 4], next: None, read, older: Vec::new(), late: None, held: None };
        let receiver = moment.subject().node;
        let arrived = moment.pair.wire[..delivered].iter().filter(|datagram| datagram.to == receiver);
        moment.read = arrived.map(|datagram| datagram.bytes.clone()).collect();
        if let Some(last) = moment.read.last() {
            // Hellos have none, and who has read nothing else is addressed as the packets under way say.
            moment.kid = *last.first_chunk().unwrap();
        }
        if way.has_an_older_key() {
            moment.older = moment.of_each_type();
        }
        let (first, second) = (who, who.other());
        let (alice, bob) = (Who::Alice, Who::Bob);
        match way {
            Way::Closed | Way::Delivered(_) => {}
            Way::Answered => moment.rekey(second, &[second, first]),
            Way::Confirmed => moment.rekey(second, &[second, first, second]),
            Way::Finished => moment.rekey(first, &[first, second, first]),
            Way::Rekeyed => moment.rekey(alice, &[alice, bob, alice, bob]),
            Way::Started => moment.rekey(first, &[first]),
            Way::StartedAgain => {
                moment.rekey(alice, &[alice, bob, alice, bob]);
                moment.rekey(first, &[first]);
            }
        }
        let sent = moment.peer().take_outgoing();
        moment.next = sent.into_iter().next().map(|(_, datagram)| datagram);
        // From then on the key id is in every datagram; before X2 it is in the hello.
        let kid_of = |datagram: &[u8]| *datagram.first_chunk().unwrap();
        match &moment.next {
            Some(next) => moment.kid = kid_of(next),
            None if matches!(way, Way::Confirmed | Way::Rekeyed) => {
                moment.kid = kid_of(moment.read.last().unwrap())
            }
            None => {
                let to_it = moment.pair.wire.iter().rev().find(|datagram| datagram.to == receiver);
                moment.kid = kid_of(&to_it.unwrap().bytes);
            }
        }
        if way == Way::Confirmed {
            moment.held = moment.subject().take_outgoing().into_iter().next().map(|(_, datagram)| datagram);
        }
        if moment.peer().has_session() {
            // So that the key of payloads is known too.
            moment.peer().send(b"late");
            moment.late = moment.peer().take_outgoing().into_iter().next().map(|(_, datagram)| datagram);
        }
        if way == Way::Closed {
            let id = moment.subject().session().id();
            moment.subject().context.close(id);
        }
        moment.forget();
        moment
    }

    /// `starter` starts to rekey, and what these have sent arrives, one after the other.
    fn rekey(&mut self, starter: Who, passes: &[Who]) {
        if starter == self.who {
            self.subject().rekey();
        } else {
            self.peer().rekey();
        }
        passes.iter().for_each(|from| self.pass(*from));
    }

    /// What `from` has sent arrives, and nothing else.
    fn pass(&mut self, from: Who) {
        let (sender, receiver) = match from {
            Who::Alice => (&mut self.pair.alice, &mut self.pair.bob),
            Who::Bob => (&mut self.pair.bob, &mut self.pair.alice),
        };
        for (_, datagram) in sender.take_outgoing() {
            receiver.receive(sender.node, datagram.clone());
            if from != self.who {
                self.read.push(datagram);
            }
        }
    }

    fn forget(&mut self) {
        for peer in [&mut self.pair.alice, &mut self.pair.bob] {
            peer.take_faults();
            peer.take_happenings();
            peer.take_payloads();
        }
    }

    /// The one in the state.
    fn subject(&mut self) -> &mut Peer {
        if self.who == Who::Alice { &mut self.pair.alice } else { &mut self.pair.bob }
    }

    /// The one who sends to it.
    fn peer(&mut self) -> &mut Peer {
        if self.who == Who::Alice { &mut self.pair.bob } else { &mut self.pair.alice }
    }

    /// A packet with a right header and a content that is not authentic, under `kid`.
    pub(super) fn forged(&mut self, kid: [u8; 4], (_, packet_type, len): (&str, u8, usize)) -> Vec<u8> {
        let mut body = vec![0x5a; len];
        // The counters of X1 and X2 are repeated at the end of their tags.
        let counter = match packet_type {
            1 => {
                body[len - 3..].copy_from_slice(&[1, 2, 3]);
                0x01_02_03
            }
            2 => 0,
            9 => {
                // Meant for this hello, as far as anybody can see.
                body[..4].copy_from_slice(&self.kid);
                1000
            }
            _ => 1000,
        };
        let forgery = Forgery { body: &body, ..Forgery::whole(kid, packet_type, counter) };
        if kid != [0; 4] {
            return self.peer().keys.forge(&forgery);
        }
        // Not protected. A hello repeats its counter where the tag of its fingerprints ends.
        let end_of_tag = 16 + len - 32;
        let mut datagram = KeyLog::new(PROVIDERS[0], 0).forge(&forgery);
        if packet_type == 0 {
            datagram.copy_within(end_of_tag - 8..end_of_tag, 8);
        }
        datagram
    }

    pub(super) fn genuine(&mut self, packet: (&str, u8, usize)) -> Option<Vec<u8>> {
        let next = self.next.clone();
        match packet.1 {
            0 => {
                // One of many peers behind the same key, who loses interest at once.
                let open = Open::to(self.subject().public_key(), self.subject().address());
                let open = open.name(PeerName::new(b"another"));
                let id = self.peer().open_with(open).unwrap();
                let sent = self.peer().take_outgoing();
                self.peer().context.close(id);
                sent.into_iter().next().map(|(_, datagram)| datagram)
            }
            1 if self.way == Way::Delivered(1) => next,
            2 if self.way == Way::Delivered(2) => next,
            6 if matches!(self.way, Way::Started | Way::StartedAgain) => next,
            5 if self.way == Way::Confirmed => {
                // The peer is certain too, and starts.
                let from = self.subject().node;
                let confirmation = self.held.take()?;
                self.peer().receive(from, confirmation);
                self.peer().rekey();
                self.peer().take_outgoing().into_iter().next().map(|(_, datagram)| datagram)
            }
            5 if matches!(self.way, Way::Delivered(5) | Way::Rekeyed | Way::Started | Way::StartedAgain) => {
                let way = self.way;
                let is_first = matches!(way, Way::Delivered(_) | Way::Started);
                let steady = if is_first { Way::Delivered(5) } else { Way::Rekeyed };
                *self = Self::reach(("S2", steady, self.who));
                if matches!(way, Way::Started | Way::StartedAgain) {
                    // Both start at once: the peer has not read K1.
                    self.subject().rekey();
                    self.subject().take_outgoing();
                }
                self.peer().rekey();
                let sent = self.peer().take_outgoing();
                sent.into_iter().next().map(|(_, datagram)| datagram)
            }
            8 => self.sealed_like(8, packet),
            3..=7 => self.sealed_like(self.confirmed_with(), packet),
            9 if self.who == Who::Alice => {
                let (hello, now) = (self.pair.wire[0].bytes.clone(), self.pair.now());
                self.peer().context.report_overload(now);
                self.peer().receive(1, hello);
                let sent = self.peer().take_outgoing();
                sent.into_iter().next().map(|(_, datagram)| datagram)
            }
            _ => None,
        }
    }

    /// Another X2 or X3 than the one that was, or is to be, read, and as genuine: the peer's answer to a second copy of the
    /// hello; what a peer that has died, and begun anew, completes its next handshake with.
    pub(super) fn anew(&mut self, packet_type: u8) -> Option<Vec<u8>> {
        match packet_type {
            1 if self.who == Who::Alice => {
                let hello = self.pair.wire[0].bytes.clone();
                self.peer().receive(1, hello);
                self.peer().take_outgoing().into_iter().next().map(|(_, datagram)| datagram)
            }
            // B2 would be over before its peer, who has stored what X3 leads to, may do without it.
            2 if self.way != Way::Delivered(2) => {
                self.peer().restart();
                let (to, at) = (self.subject().public_key(), self.subject().address());
                self.peer().open_with(Open::to(to, at).give_up_after(None)).unwrap();
                self.completed().or_else(|| {
                    // One that read K1 before it died is not certain yet of what became of its K2.
                    self.pair.stand_still_for(Duration::from_secs(10));
                    self.peer().meet_deadlines();
                    self.completed()
                })
            }
            _ => None,
        }
    }

    /// The X3 to which the hello leads that the peer has just sent.
    fn completed(&mut self) -> Option<Vec<u8>> {
        let (subject, peer) = (self.subject().node, self.peer().node);
        for (_, hello) in self.peer().take_outgoing() {
            self.subject().receive(peer, hello);
        }
        for (_, response) in self.subject().take_outgoing() {
            self.peer().receive(subject, response);
        }
        self.forget();
        self.peer().take_outgoing().into_iter().next().map(|(_, datagram)| datagram)
    }

    /// The type of the packet with which the peer has said last that it has a key, C1 or C2: that one is its latest.
    fn confirmed_with(&self) -> u8 {
        match (self.way, self.who) {
            (Way::Rekeyed | Way::StartedAgain, Who::Alice) | (Way::Finished, _) => 4,
            (Way::Rekeyed | Way::StartedAgain, Who::Bob) | (Way::Answered | Way::Confirmed, _) => 3,
            (_, Who::Alice) => 3,
            (_, Who::Bob) => 4,
        }
    }

    /// What the peer could send under the first key: a packet of each type that has a session's counter.
    fn of_each_type(&mut self) -> Vec<(u8, Vec<u8>)> {
        let like = if self.who == Who::Alice { 3 } else { 4 };
        let types = [("C1", 3, 16), ("C2", 4, 16), ("K1", 5, 85), ("K2", 6, 85), ("D", 7, 16)];
        let control = types.map(|packet| (packet.1, self.sealed_like(like, packet).unwrap()));
        self.peer().send(b"late");
        let payload = self.peer().take_outgoing().remove(0).1;
        control.into_iter().chain([(8, payload)]).collect()
    }

    /// A packet of zeros under the key with which the peer last sealed one of type `like`: for C1, C2, D and P as it should
    /// be, in K1 and K2 only the outer layer is.
    fn sealed_like(&mut self, like: u8, (_, packet_type, len): (&str, u8, usize)) -> Option<Vec<u8>> {
        let kid = self.kid;
        let body = self.peer().keys.seal(like, packet_type, 1000, &vec![0; len - 16])?;
        Some(self.peer().keys.forge(&Forgery { body: &body, ..Forgery::whole(kid, packet_type, 1000) }))
    }

    /// K1 or K2 whose outer layer is right and whose inner one is not, where it is a packet that is waited for.
    pub(super) fn wrong_inside(&mut self, packet: (&str, u8, usize)) -> Option<Vec<u8>> {
        let is_expected = match packet.1 {
            5 => matches!(
                self.way,
                Way::Confirmed | Way::Delivered(5) | Way::Rekeyed | Way::Started | Way::StartedAgain
            ),
            6 => matches!(self.way, Way::Started | Way::StartedAgain),
            _ => false,
        };
        if is_expected { self.sealed_like(self.confirmed_with(), packet) } else { None }
    }

    /// The packet of this type that was read last, once more.
    pub(super) fn repeated(&mut self, (_, packet_type, _): (&str, u8, usize)) -> Option<Vec<u8>> {
        let from = self.peer().node;
        match packet_type {
            8 => {
                let late = self.late.clone()?;
                self.subject().receive(from, late.clone());
                self.forget();
                Some(late)
            }
            9 if self.way == Way::Delivered(1) => {
                let challenge = self.genuine(("challenge", 9, 36))?;
                self.subject().receive(from, challenge.clone());
                self.forget();
                Some(challenge)
            }
            _ => {
                let read = core::mem::take(&mut self.read);
                let keys = &self.peer().keys;
                read.into_iter().rev().find(|datagram| keys.type_of(datagram) == Some(packet_type))
            }
        }
    }

    /// A packet of this type under the key before the latest, where there are two.
    pub(super) fn under_the_older_key(&self, (_, packet_type, _): (&str, u8, usize)) -> Option<Vec<u8>> {
        let of_type = self.older.iter().find(|(older, _)| *older == packet_type);
        of_type.map(|(_, datagram)| datagram.clone())
    }

    /// Delivers a packet and says what comes of it.
    pub(super) fn receive(&mut self, packet: Vec<u8>) -> String {
        let from = self.peer().node;
        let subject = self.subject();
        subject.receive(from, packet);
        subject.flush();
        self.outcome()
    }

    /// The application asks for another key, where there is a session; what comes of it.
    pub(super) fn ask_for_a_key(&mut self) -> Option<String> {
        let subject = self.subject();
        if subject.stats().sessions == 0 || !subject.has_session() {
            return None;
        }
        subject.rekey();
        Some(self.outcome())
    }

    /// Lets time pass, and says what comes of it.
    pub(super) fn wait(&mut self, time: Duration) -> String {
        let pending = self.subject().stats().pending_handshakes;
        self.pair.stand_still_for(time);
        self.subject().meet_deadlines();
        let forgotten = self.subject().stats().pending_handshakes < pending;
        if forgotten { "forgets".into() } else { self.outcome() }
    }

    /// What has happened just now.
    fn outcome(&mut self) -> String {
        let kid = self.kid;
        let subject = self.subject();
        let mut words: Vec<String> = subject.take_faults().iter().map(|fault| format!("{fault:?}")).collect();
        words.extend(subject.take_happenings().iter().map(|happening| match happening {
            Happening::Asked => "asks".into(),
            Happening::Ended(EndReason::Replaced { .. }) => "replaces".into(),
            Happening::Ended(reason) => format!("{reason:?}"),
            Happening::Established(_) => "opens".into(),
            other => format!("{other:?}"),
        }));
        words.extend(subject.take_payloads().iter().map(|_| "delivers".to_string()));
        for (_, datagram) in subject.take_outgoing() {
            let name = NAMES[usize::from(subject.keys.type_of(&datagram).unwrap())];
            let is_new = name == "X1" && datagram[16..20] != kid;
            words.push(format!("+{}{name}", if is_new { "new " } else { "" }));
        }
        if words.is_empty() { "ok".into() } else { words.join(" ").replace("opens replaces", "replaces") }
    }

    /// The state as others see it: by what is sent again after a second, and where nothing is, by what is held.
    pub(super) fn state(&mut self) -> &'static str {
        self.pair.stand_still_for(Duration::from_secs(1));
        let kid = self.kid;
        let subject = self.subject();
        subject.meet_deadlines();
        let mut state = match (subject.stats().sessions, subject.stats().pending_handshakes) {
            (1.., _) => "S2",
            (0, 1..) => "B2",
            (0, 0) => "over",
        };
        for (to, datagram) in subject.take_outgoing() {
            state = match subject.keys.type_of(&datagram) {
                Some(0) if datagram[16..20] == kid => "A1",
                Some(0) => "A1 new",
                Some(2) => "A3",
                Some(3) => "S1",
                Some(5) => "R1",
                Some(6) => "R2",
                _ => "?",
            };
            subject.put_back(to, datagram);
        }
        state
    }

    /// Whether the two still come together, or still are.
    pub(super) fn goes_on(&mut self) -> bool {
        self.pair.drive_for(Duration::from_secs(25));
        self.pair.talk()
    }
}
