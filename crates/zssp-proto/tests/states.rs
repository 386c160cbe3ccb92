//! Every state that is built against every type of packet (PROTOCOL 5.3): what comes of it, as one table.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::time::Duration;

use zssp_harness::pair::{Forgery, Happening, Pair, Peer, Setup};

/// States by the number of packets that were delivered before, and who is in them.
const STATES: [(&str, usize, Who); 6] = [
    ("A1", 1, Who::Alice),
    ("B2", 2, Who::Bob),
    ("A3", 3, Who::Alice),
    ("S1", 4, Who::Bob),
    ("S2 Alice", 5, Who::Alice),
    ("S2 Bob", 5, Who::Bob),
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

/// What becomes of a packet that came under the state's key id with a header that is right.
///
/// *forged*: its content is not authentic. *genuine*: it is what the peer would send, in this moment or another; a dash
/// where there are no keys yet that could have made it. A number of datagrams is what is sent in answer.
const TABLE: &str = "
                   A1             B2             A3             S1             S2 Alice       S2 Bob
X1 forged          Unexpected     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
X2 forged          Forged +1      Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
X2 genuine         +1             -              -              -              -              -
X3 forged          Unexpected     Forged         Unexpected     Unexpected     Unexpected     Unexpected
X3 genuine         -              asks opens +1  -              -              -              -
C1 forged          Unexpected     Unexpected     Forged         Forged         Forged         Forged
C1 genuine         -              -              opens +1       +1             +1             +1
C2 forged          Unexpected     Unexpected     Unexpected     Forged         Unexpected     Unexpected
C2 genuine         -              -              Unexpected     ok             Unexpected     Unexpected
K1 forged          Unexpected     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
K1 genuine         -              -              Unexpected     Unexpected     Unexpected     Unexpected
K2 forged          Unexpected     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
K2 genuine         -              -              Unexpected     Unexpected     Unexpected     Unexpected
D forged           Unexpected     Unexpected     Forged         Unexpected     Unexpected     Unexpected
D genuine          -              -              Rejected       Unexpected     Unexpected     Unexpected
P forged           Unexpected     Unexpected     Forged         Forged         Forged         Forged
P genuine          -              -              delivers       delivers       delivers       delivers
challenge forged   Unexpected     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
type 10 forged     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected     Unexpected
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Alice,
    Bob,
}

/// A pair one of whom is in a state.
struct Moment {
    pair: Pair,
    who: Who,
    /// The key id under which that one is addressed.
    kid: [u8; 4],
    /// The packet that an honest peer sends next: X2, X3, C1 or C2.
    next: Option<Vec<u8>>,
}

impl Moment {
    fn reach((_, delivered, who): (&str, usize, Who)) -> Self {
        let mut pair = Pair::with(1, &Setup::default());
        pair.alice.open(&pair.bob);
        for _ in 0..delivered {
            pair.pump();
            assert!(pair.deliver(None));
        }
        let mut moment = Self { pair, who, kid: [0; 4], next: None };
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
        for peer in [&mut moment.pair.alice, &mut moment.pair.bob] {
            peer.take_faults();
            peer.take_happenings();
        }
        moment
    }

    /// The one in the state.
    fn subject(&mut self) -> &mut Peer {
        if self.who == Who::Alice { &mut self.pair.alice } else { &mut self.pair.bob }
    }

    /// The one who sends to it.
    fn peer(&mut self) -> &mut Peer {
        if self.who == Who::Alice { &mut self.pair.bob } else { &mut self.pair.alice }
    }

    fn forged(&mut self, (_, packet_type, len): (&str, u8, usize)) -> Vec<u8> {
        let mut body = vec![0x5a; len];
        // The counters of X1 and X2 are repeated at the end of their tags.
        let counter = match packet_type {
            1 => {
                body[len - 3..].copy_from_slice(&[1, 2, 3]);
                0x01_02_03
            }
            2 => 0,
            _ => 1000,
        };
        let kid = self.kid;
        self.peer().keys.forge(&Forgery { body: &body, ..Forgery::whole(kid, packet_type, counter) })
    }

    fn genuine(&mut self, (_, packet_type, len): (&str, u8, usize)) -> Option<Vec<u8>> {
        let (delivered, kid) = (self.next.clone(), self.kid);
        match packet_type {
            1 if self.pair.wire.len() == 1 => delivered,
            2 if self.pair.wire.len() == 2 => delivered,
            3..=8 => {
                let like = if packet_type == 8 {
                    8
                } else if self.who == Who::Alice {
                    3
                } else {
                    4
                };
                let plaintext = vec![0; len - 16];
                let body = self.peer().keys.seal(like, packet_type, 1000, &plaintext)?;
                Some(
                    self.peer()
                        .keys
                        .forge(&Forgery { body: &body, ..Forgery::whole(kid, packet_type, 1000) }),
                )
            }
            _ => None,
        }
    }

    /// Delivers a packet and says what comes of it.
    fn outcome(&mut self, packet: Vec<u8>) -> String {
        let from = self.peer().node;
        let subject = self.subject();
        subject.receive(from, packet);
        subject.flush();
        let mut words: Vec<String> = subject.take_faults().iter().map(|fault| format!("{fault:?}")).collect();
        words.extend(subject.take_happenings().iter().map(|happening| match happening {
            Happening::Asked => "asks".into(),
            Happening::Ended(reason) => format!("{reason:?}"),
            Happening::Established(_) => "opens".into(),
            other => format!("{other:?}"),
        }));
        words.extend(subject.take_payloads().iter().map(|_| "delivers".to_string()));
        let sent = subject.take_outgoing();
        if !sent.is_empty() {
            words.push(format!("+{}", sent.len()));
        }
        if words.is_empty() { "ok".into() } else { words.join(" ") }
    }

    /// Whether the two still come together, or still are.
    fn goes_on(&mut self) -> bool {
        self.pair.drive_for(Duration::from_secs(25));
        self.pair.talk()
    }
}

//= ZSSP-ST-12  S2 is entered when C1 or C2 was read
//= ZSSP-ST-18  a failure inside a Noise handshake: the timeout transition at once
//= ZSSP-ST-19  any other authentication failure is as if the packet had never come
//= ZSSP-ST-21  a valid C1 is always answered
//= ZSSP-ST-26  payloads are received in A3, S1 and S2
//= ZSSP-RPL-04  X2 in A1 only
//= ZSSP-RPL-05  X3 in B2 only
//= ZSSP-RPL-09  hello and challenge with kid 0 only
//= ZSSP-RPL-10  other types never
//= ZSSP-HP-07  a header that passed by luck leads nowhere
#[test]
fn every_state_and_every_packet() {
    let mut table = format!("{:19}", "");
    for (state, _, _) in STATES {
        table += &format!("{state:15}");
    }
    for packet in PACKETS {
        for variant in ["forged", "genuine"] {
            let mut row = format!("\n{:19}", format!("{} {variant}", packet.0));
            let mut made = false;
            for state in STATES {
                let mut moment = Moment::reach(state);
                let datagram =
                    if variant == "forged" { Some(moment.forged(packet)) } else { moment.genuine(packet) };
                let outcome = match datagram {
                    Some(datagram) => {
                        made = true;
                        moment.outcome(datagram)
                    }
                    None => "-".into(),
                };
                let ends = outcome.contains("Rejected");
                assert_ne!(moment.goes_on(), ends, "{} {variant} in {}", packet.0, state.0);
                row += &format!("{outcome:15}");
            }
            if made {
                table += row.trim_end();
            }
        }
    }
    let table: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert!(table == TABLE.trim_start_matches('\n'), "it is now:\n{table}");
}
