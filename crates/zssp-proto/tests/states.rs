//! Every state against every type of packet and every timer (PROTOCOL 5.3): what comes of it, as one table.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::time::Duration;

use zssp_harness::pair::{Forgery, Happening, KeyLog, Pair, Peer, Setup};
use zssp_proto::crypto::PROVIDERS;
use zssp_proto::{Open, PeerName};

/// The states, how to get there, and who is in them.
const STATES: [(&str, Way, Who); 11] = [
    ("A1", Way::Delivered(1), Who::Alice),
    ("B2", Way::Delivered(2), Who::Bob),
    ("A3", Way::Delivered(3), Who::Alice),
    ("S1", Way::Delivered(4), Who::Bob),
    ("S2 Alice", Way::Delivered(5), Who::Alice),
    ("S2 Bob", Way::Delivered(5), Who::Bob),
    ("R1 Alice", Way::Started, Who::Alice),
    ("R1 Bob", Way::Started, Who::Bob),
    ("R2 Alice", Way::Answered, Who::Alice),
    ("R2 Bob", Way::Answered, Who::Bob),
    ("closed", Way::Closed, Who::Alice),
];

/// Every type there is, the first there is not, and the length of its body.
const PACKETS: [(&str, u8, usize); 11] = [
    ("X1", 0, 1749),
    ("X2", 1, 1653),
    ("X3", 2, 81),
    ("C1", 3, 16),
    ("C2", 4, 16),
    ("K1", 5, 85),
    ("K2", 6, 85),
    ("D", 7, 16),
    ("P", 8, 116),
    ("challenge", 9, 36),
    ("type 10", 10, 32),
];

/// The timers, and when they are met.
const TIMERS: [(&str, Duration); 4] = [
    ("resend (1 s)", Duration::from_secs(1)),
    ("timeout (10 s)", Duration::from_secs(10)),
    ("timeout (60 s)", Duration::from_secs(60)),
    ("rekey (60 min)", Duration::from_secs(60 * 60)),
];

/// What becomes of every packet, and of time that passes, in every state. The file says how to read it.
const TABLE: &str = include_str!("states.txt");

/// How packets are named in the table, by their type.
const NAMES: [&str; 10] = ["X1", "X2", "X3", "C1", "C2", "K1", "K2", "D", "P", "challenge"];

/// What comes before a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The peer has started to rekey, and this side has read K1.
    Answered,
    /// The application has closed the session.
    Closed,
    /// So many packets of the first handshake were delivered.
    Delivered(usize),
    /// This side has started to rekey, and the peer has read K1.
    Started,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
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
struct Moment {
    pair: Pair,
    way: Way,
    who: Who,
    /// The key id under which that one is addressed.
    kid: [u8; 4],
    /// The packet that an honest peer sends next: X2, X3, C1, C2 or K2.
    next: Option<Vec<u8>>,
}

impl Moment {
    fn reach((_, way, who): (&str, Way, Who)) -> Self {
        let delivered = if let Way::Delivered(delivered) = way { delivered } else { 5 };
        let mut pair = Pair::with(1, &Setup::default());
        let open = Open::to(pair.bob.public_key(), pair.bob.address()).give_up_after(None);
        pair.alice.open_with(open).unwrap();
        for _ in 0..delivered {
            pair.pump();
            assert!(pair.deliver(None));
        }
        let mut moment = Self { pair, way, who, kid: [0; 4], next: None };
        match way {
            Way::Answered => {
                moment.peer().rekey();
                moment.pass(who.other());
                moment.pass(who);
            }
            Way::Closed | Way::Delivered(_) => {}
            Way::Started => {
                moment.subject().rekey();
                moment.pass(who);
            }
        }
        let sent = moment.peer().take_outgoing();
        moment.next = sent.into_iter().next().map(|(_, datagram)| datagram);
        // From then on the key id is in every datagram; before X2 it is in the hello.
        let kid_of = |datagram: &[u8]| *datagram.first_chunk().unwrap();
        let receiver = moment.subject().node;
        moment.kid = match &moment.next {
            Some(next) => kid_of(next),
            None => {
                let to_it = moment.pair.wire.iter().rev().find(|datagram| datagram.to == receiver);
                kid_of(&to_it.unwrap().bytes)
            }
        };
        if moment.peer().has_session() {
            // So that the key of payloads is known too.
            moment.peer().send(b"lost");
            moment.peer().take_outgoing();
        }
        if way == Way::Closed {
            let id = moment.subject().session().id();
            moment.subject().context.close(id);
        }
        moment.forget();
        moment
    }

    /// What `from` has sent arrives, and nothing else.
    fn pass(&mut self, from: Who) {
        let (sender, receiver) = match from {
            Who::Alice => (&mut self.pair.alice, &mut self.pair.bob),
            Who::Bob => (&mut self.pair.bob, &mut self.pair.alice),
        };
        for (_, datagram) in sender.take_outgoing() {
            receiver.receive(sender.node, datagram);
        }
    }

    fn forget(&mut self) {
        for peer in [&mut self.pair.alice, &mut self.pair.bob] {
            peer.take_faults();
            peer.take_happenings();
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
    fn forged(&mut self, kid: [u8; 4], (_, packet_type, len): (&str, u8, usize)) -> Vec<u8> {
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

    fn genuine(&mut self, (_, packet_type, len): (&str, u8, usize)) -> Option<Vec<u8>> {
        let (next, kid) = (self.next.clone(), self.kid);
        match packet_type {
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
            6 if self.way == Way::Started => next,
            5 if matches!(self.way, Way::Delivered(5) | Way::Started) => {
                let way = self.way;
                *self = Self::reach(("S2", Way::Delivered(5), self.who));
                if way == Way::Started {
                    // Both start at once: the peer has not read K1.
                    self.subject().rekey();
                    self.subject().take_outgoing();
                }
                self.peer().rekey();
                let sent = self.peer().take_outgoing();
                sent.into_iter().next().map(|(_, datagram)| datagram)
            }
            3..=8 => {
                // Control packets are sealed with the key of the latest confirmation, which is the peer's own where it
                // has sent one.
                let like = match (packet_type, self.way, self.who) {
                    (8, ..) => 8,
                    (_, Way::Answered, _) | (_, _, Who::Alice) => 3,
                    (_, _, Who::Bob) => 4,
                };
                let plaintext = vec![0; len - 16];
                let body = self.peer().keys.seal(like, packet_type, 1000, &plaintext)?;
                Some(
                    self.peer()
                        .keys
                        .forge(&Forgery { body: &body, ..Forgery::whole(kid, packet_type, 1000) }),
                )
            }
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

    /// Delivers a packet and says what comes of it.
    fn receive(&mut self, packet: Vec<u8>) -> String {
        let from = self.peer().node;
        let subject = self.subject();
        subject.receive(from, packet);
        subject.flush();
        self.outcome()
    }

    /// Lets time pass, and says what comes of it.
    fn wait(&mut self, time: Duration) -> String {
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
        if words.is_empty() { "ok".into() } else { words.join(" ") }
    }

    /// Whether the two still come together, or still are.
    fn goes_on(&mut self) -> bool {
        self.pair.drive_for(Duration::from_secs(25));
        self.pair.talk()
    }
}

/// Rows of cells as text, each column as wide as it must be.
fn table(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

//= ZSSP-ST-02  A1 resends X1 every second
//= ZSSP-ST-03  and starts over with a new one after 10 s
//= ZSSP-ST-04  B2 sends nothing again
//= ZSSP-ST-05  and is forgotten after 10 s
//= ZSSP-ST-06  A3 resends X3 every second
//= ZSSP-ST-07  and goes back to A1 after 10 s
//= ZSSP-ST-08  S1 resends C1 every second
//= ZSSP-ST-10  and ends the session after 60 s
//= ZSSP-ST-11  S1 is entered when the rekey starter read K2
//= ZSSP-ST-12  S2 is entered when C1 or C2 was read
//= ZSSP-ST-13  S2 starts to rekey after an hour at the latest
//= ZSSP-ST-14  R1 sends K1, again every second
//= ZSSP-ST-15  and ends the session after 60 s
//= ZSSP-ST-16  R2 is entered when K1 was read, sends K2, again every second
//= ZSSP-ST-17  and ends the session after 60 s
//= ZSSP-ST-18  a failure inside a Noise handshake: the timeout transition at once
//= ZSSP-DEF-03  a failed handshake is restarted in every build
//= ZSSP-ST-19  any other authentication failure is as if the packet had never come
//= ZSSP-ST-20  K1 in R1: Bob of the first handshake gives way, Alice does not
//= ZSSP-ST-21  a valid C1 is always answered in S1 and S2
//= ZSSP-ST-22  and in R1 and R2
//= ZSSP-ST-26  payloads are received in A3, S1, S2, R1 and R2
//= ZSSP-RPL-04  X2 in A1 only
//= ZSSP-RPL-05  X3 in B2 only
//= ZSSP-RPL-09  hello and challenge with kid 0 only
//= ZSSP-RPL-10  other types never
//= ZSSP-HP-07  a header that passed by luck leads nowhere
#[test]
fn every_state_every_packet_and_every_timer() {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(STATES.map(|(state, ..)| state.to_string()));
    for packet in PACKETS {
        for variant in ["forged", "genuine", "under a kid"] {
            let is_stranger = matches!(packet.1, 0 | 9);
            let row = STATES.map(|state| {
                let mut moment = Moment::reach(state);
                let kid = if is_stranger && variant == "forged" { [0; 4] } else { moment.kid };
                let datagram = match variant {
                    "genuine" => moment.genuine(packet),
                    "under a kid" if !is_stranger => None,
                    _ => Some(moment.forged(kid, packet)),
                };
                let outcome = datagram.map_or_else(|| "-".into(), |datagram| moment.receive(datagram));
                let ends = outcome.contains("Rejected") || state.1 == Way::Closed;
                assert_ne!(moment.goes_on(), ends, "{} {variant} in {}", packet.0, state.0);
                outcome
            });
            rows.extend(row_of(&format!("{} {variant}", packet.0), &row));
        }
    }
    for (timer, time) in TIMERS {
        let row = STATES.map(|state| {
            let mut moment = Moment::reach(state);
            let outcome = moment.wait(time);
            if state.1 != Way::Closed && !outcome.contains("Expired") {
                assert!(moment.goes_on(), "{timer} in {}", state.0);
            }
            outcome.replace("ok", ".")
        });
        rows.extend(row_of(timer, &row));
    }
    let table = table(&rows);
    let expected: String = TABLE
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .fold(String::new(), |lines, line| lines + line + "\n");
    assert!(
        table == expected,
        "the table has changed; if that is right, put this below the empty line of tests/states.txt:\n{table}"
    );
}

/// A row of the table, if there is anything to say in it.
fn row_of(name: &str, outcomes: &[String]) -> Option<Vec<String>> {
    let cells =
        outcomes.iter().map(|outcome| outcome.replace("Unexpected", ".").replace("UnknownKeyId", "Unknown"));
    let row: Vec<String> = core::iter::once(name.to_string()).chain(cells).collect();
    row[1..].iter().any(|outcome| outcome != "-").then_some(row)
}
