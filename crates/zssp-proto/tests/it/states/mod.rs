//! Every state against every type of packet and every timer (PROTOCOL 5.3): what comes of it, as one table, and whether
//! that is what the specification says.

mod moment;

use std::collections::BTreeSet;
use std::time::Duration;

use moment::{Moment, Way, Who};

/// The states, how to get there, and who is in them.
const STATES: [(&str, Way, Who); 16] = [
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
    ("S1 x", Way::Finished, Who::Alice),
    ("S2 y", Way::Confirmed, Who::Bob),
    ("S2 Alice x", Way::Rekeyed, Who::Alice),
    ("R1 Alice x", Way::StartedAgain, Who::Alice),
    ("R1 Bob y", Way::StartedAgain, Who::Bob),
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
const TIMERS: [(&str, Duration); 5] = [
    ("resend (1 s)", Duration::from_secs(1)),
    ("timeout (10 s)", Duration::from_secs(10)),
    ("timeout (60 s)", Duration::from_secs(60)),
    ("rest (49 min)", Duration::from_secs(49 * 60)),
    ("rekey (60 min)", Duration::from_secs(60 * 60)),
];

/// The application asks for another key.
const REKEY: &str = "asked to rekey";

/// What becomes of every packet, and of time that passes, in every state. The file says how to read it.
const OUTCOMES: &str = include_str!("outcomes.txt");

/// What PROTOCOL 5.3 says of it, written by hand. The file says how to read it.
const SPECIFICATION: &str = include_str!("specification.txt");

/// What comes to a state.
#[derive(Clone, Copy)]
enum What {
    Again,
    Anew,
    Forged,
    Genuine,
    UnderAKeyId,
    UnderTheOlderKey,
    WrongInside,
}

const WHAT: [(&str, What); 7] = [
    ("forged", What::Forged),
    ("genuine", What::Genuine),
    ("anew", What::Anew),
    ("under a kid", What::UnderAKeyId),
    ("again", What::Again),
    ("wrong inside", What::WrongInside),
    ("older key", What::UnderTheOlderKey),
];

/// What has come of a packet, or of time, in a state.
#[derive(Clone)]
struct Outcome {
    /// In the words of the outcomes.
    seen: String,
    /// The state after it.
    next: &'static str,
}

/// Every event, and what has come of it in every state; `None` where nobody has the keys to make it.
fn outcomes() -> Vec<(String, Vec<Option<Outcome>>)> {
    let mut rows = Vec::new();
    for packet in PACKETS {
        for (name, what) in WHAT {
            let event = format!("{} {name}", packet.0);
            let row = STATES.map(|state| {
                let mut moment = Moment::reach(state);
                let datagram = datagram(&mut moment, packet, what)?;
                let seen = moment.receive(datagram);
                let next = moment.state();
                let is_closed = state.1 == Way::Closed && !seen.contains("opens");
                let ends = next == "over" || seen.contains("Rejected") || is_closed;
                assert_eq!(moment.goes_on(), !ends || state.0 == "B2", "{event} in {}", state.0);
                Some(Outcome { seen, next })
            });
            rows.push((event, row.to_vec()));
        }
    }
    let row = STATES.map(|state| {
        let mut moment = Moment::reach(state);
        let seen = moment.ask_for_a_key()?;
        let next = moment.state();
        assert!(moment.goes_on(), "{REKEY} in {}", state.0);
        Some(Outcome { seen, next })
    });
    rows.push((REKEY.to_string(), row.to_vec()));
    for (timer, time) in TIMERS {
        let row = STATES.map(|state| {
            let mut moment = Moment::reach(state);
            let seen = moment.wait(time);
            let next = moment.state();
            // The peer of "S2 y" is in S1, and is over by then.
            let is_peer_over = state.1 == Way::Confirmed && time >= Duration::from_secs(60);
            if state.1 != Way::Closed && !seen.contains("Expired") && !is_peer_over {
                assert!(moment.goes_on(), "{timer} in {}", state.0);
            }
            Some(Outcome { seen, next })
        });
        rows.push((timer.to_string(), row.to_vec()));
    }
    rows.retain(|(_, row)| row.iter().any(Option::is_some));
    rows
}

fn datagram(moment: &mut Moment, packet: (&str, u8, usize), what: What) -> Option<Vec<u8>> {
    let is_stranger = matches!(packet.1, 0 | 9);
    match what {
        What::Again => moment.repeated(packet),
        What::Anew => moment.anew(packet.1),
        What::Forged => {
            let kid = if is_stranger { [0; 4] } else { moment.kid };
            Some(moment.forged(kid, packet))
        }
        What::Genuine => moment.genuine(packet),
        What::UnderAKeyId if is_stranger => Some(moment.forged(moment.kid, packet)),
        What::UnderAKeyId => None,
        What::UnderTheOlderKey => moment.under_the_older_key(packet),
        What::WrongInside => moment.wrong_inside(packet),
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
//= ZSSP-ST-13  S2 starts to rekey after an hour at the latest, and not in the first 49 minutes
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
//= ZSSP-ST-27  late ones under the key before the latest too
//= ZSSP-KK-05  K1 and K2 under the current key-exchange key only
//= ZSSP-RPL-04  X2 in A1 only
//= ZSSP-RPL-05  X3 in B2 only
//= ZSSP-RPL-09  hello and challenge with kid 0 only
//= ZSSP-RPL-10  other types never
//= ZSSP-ONE-02  a peer that opens again takes the place of its session, whatever that is doing
//= ZSSP-ONE-03  but not of an attempt of ours that goes first
//= ZSSP-HP-07  a header that passed by luck leads nowhere
#[test]
fn every_state_every_packet_and_every_timer() {
    let outcomes = outcomes();
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(STATES.map(|(state, ..)| state.to_string()));
    for (event, row) in &outcomes {
        let is_timer = TIMERS.iter().any(|(timer, _)| timer == event);
        let cells = row.iter().map(|outcome| match outcome {
            None => "-".into(),
            Some(outcome) if is_timer => outcome.seen.replace("ok", "."),
            Some(outcome) => {
                let seen = outcome.seen.replace("Unexpected", ".").replace("UnknownKeyId", "Unknown");
                seen.replace("RatchetMismatch", "Mismatch")
            }
        });
        rows.push(core::iter::once(event.clone()).chain(cells).collect());
    }
    let table = table(&rows);
    let expected: String =
        lines_after_the_first_empty_one(OUTCOMES).map(|line| format!("{line}\n")).collect();
    assert!(
        table == expected,
        "the table has changed; if that is right, put this below the empty line of outcomes.txt:\n{table}"
    );
    compare_with_the_specification(&outcomes);
}

fn lines_after_the_first_empty_one(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip_while(|line| !line.is_empty()).skip(1)
}

/// A line of the specification.
#[derive(Debug)]
struct Rule<'t> {
    states: Vec<&'t str>,
    events: Vec<&'t str>,
    action: &'t str,
    next: &'t str,
}

impl<'t> Rule<'t> {
    fn parse(line: &'t str) -> Self {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let [states, events, action, next, requirements] = cells[..] else {
            panic!("not five cells: {line}")
        };
        for id in requirements.split(", ") {
            let is_stated = include_str!("../../../../../docs/protocol.md").contains(&format!("`ZSSP-{id}`"));
            assert!(is_stated, "{id} is no requirement: {line}");
        }
        Self { states: states.split(", ").collect(), events: events.split(", ").collect(), action, next }
    }

    fn is_about(&self, state: &str, event: &str) -> bool {
        let is_state = |it: &&str| *it == "all" || *it == state || state.starts_with(&format!("{it} "));
        let is_event = |it: &&str| *it == event || event.ends_with(&format!(" {it}"));
        self.states.iter().any(is_state) && self.events.iter().any(is_event)
    }
}

/// Each outcome is the subject of exactly one rule, and as that says; and each rule has a subject.
fn compare_with_the_specification(outcomes: &[(String, Vec<Option<Outcome>>)]) {
    let lines = lines_after_the_first_empty_one(SPECIFICATION);
    let rules: Vec<Rule<'_>> = lines.filter(|line| !line.is_empty()).skip(1).map(Rule::parse).collect();
    let (mut used, mut differences) = (BTreeSet::new(), Vec::new());
    for (event, row) in outcomes {
        for ((state, ..), outcome) in STATES.iter().zip(row) {
            let Some(outcome) = outcome else { continue };
            let about: Vec<usize> =
                (0..rules.len()).filter(|index| rules[*index].is_about(state, event)).collect();
            let [index] = about[..] else {
                differences.push(format!("{event} in {state}: {} rules", about.len()));
                continue;
            };
            used.insert(index);
            let rule = &rules[index];
            let before = state.split(' ').next().unwrap();
            let (action, next) =
                (action(&outcome.seen), if outcome.next == before { "=" } else { outcome.next });
            let is_over = before == "closed" && next == "over";
            if action != rule.action || (next != rule.next && !is_over) {
                let (should, after) = (rule.action, rule.next);
                differences
                    .push(format!("{event} in {state}: {action}, {next}; should be {should}, {after}"));
            }
        }
    }
    let unused = (0..rules.len()).filter(|index| !used.contains(index));
    differences.extend(unused.map(|index| format!("nothing to see of {:?}", rules[index])));
    assert!(differences.is_empty(), "other than the specification:\n{}", differences.join("\n"));
}

/// What was seen, in the words of the specification: it does not say why a packet is dropped.
fn action(seen: &str) -> String {
    let words = seen.split(' ').map(|word| match word {
        "." | "Unexpected" | "Forged" | "RatchetMismatch" | "Replayed" | "Stale" | "Superseded"
        | "UnknownKeyId" => "drop",
        "ok" => "none",
        "Expired" | "Rejected" => "end",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ").replace("+", "send ").replace("send new X1", "send X1")
}
