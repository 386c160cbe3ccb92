//! Recorded sessions, replayed byte for byte: our core plays one side, the recording the other.
//!
//! `ZSSP_VECTORS` names another directory than the repository's `testing/vectors`. What was replayed goes to standard
//! error. Nothing is skipped: a file that cannot be replayed, as either side and with each provider, fails the test.

use std::fs;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use zssp_harness::VARIANTS;
use zssp_harness::record::{plans, record};
use zssp_harness::replay::replay;
use zssp_proto::crypto::Provider;
use zssp_sim::vectors::{self, Event, Op, Scenario, Seen, Who};

const SIDES: [Who; 2] = [Who::Alice, Who::Bob];

fn providers() -> Vec<Arc<dyn Provider>> {
    vec![
        #[cfg(feature = "aws-lc")]
        Arc::new(zssp_proto::crypto::AwsLc),
        #[cfg(feature = "rust-crypto")]
        Arc::new(zssp_proto::crypto::RustCrypto),
    ]
}

/// Prints past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Replays every file of a directory, as either side and with every provider; the names of the files. Each is told to
/// `report`.
fn replay_directory(directory: &Path, report: impl Fn(&str)) -> Vec<String> {
    let (mut replayed, mut failures) = (Vec::new(), Vec::new());
    for scenario in vectors::load_dir(directory).expect("a directory of recorded sessions") {
        let title = format!("{}.{}", scenario.variant, scenario.name);
        let mut runs = Vec::new();
        for provider in providers() {
            for who in SIDES {
                let run = format!("{who:?} with {}", provider.name());
                match replay(&scenario, who, provider.clone()) {
                    Ok(()) => runs.push(run),
                    Err(divergence) => failures.push(format!("{title} as {run}: {divergence}")),
                }
            }
        }
        report(&format!("{title}: replayed as {}", runs.join(", ")));
        replayed.push(format!("{title}.json"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    replayed.sort();
    assert_eq!(replayed, files(directory), "files that were not replayed, or are called something else");
    replayed
}

/// The names of all files of a directory but `README.md`, sorted.
fn files(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().expect("a directory");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names.filter(|name| name != "README.md").collect();
    files.sort();
    files
}

// What the replay of one scenario shows, because the bytes would differ otherwise. Of receiving it shows that the right
// packets are read; that wrong ones are refused is for other tests.
//= ZSSP-HDR-01  in every header
//= ZSSP-HDR-03  of every datagram
//= ZSSP-HDR-04  the recorded key ids, zero in hellos
//= ZSSP-HDR-05  fragments in order
//= ZSSP-HDR-07  zero
//= ZSSP-HDR-08  of X1, X2, X3, C1, C2, D and P
//= ZSSP-HDR-09  of handshake packets, and counted on in sessions
//= ZSSP-HDR-10  in every tag
//= ZSSP-SPL-02  at MTUs 128, 1280 and 1500
//= ZSSP-SPL-03  at MTUs 128, 1280 and 1500
//= ZSSP-HP-02  under the recorded header keys
//= ZSSP-HP-03  hellos travel in the clear
//= ZSSP-HP-05  or nothing would be understood
//= ZSSP-SUI-01  recorded scalars give the recorded points and secrets
//= ZSSP-SUI-02  recorded key pairs and ciphertexts
//= ZSSP-SUI-03  in every sealed field
//= ZSSP-SUI-04  in every sealed field of the handshake
//= ZSSP-SUI-05  the hello opens with one
//= ZSSP-SUI-08  Bob tries another suite first
//= ZSSP-SUI-10  the session reports it
//= ZSSP-SUI-12  recorded as `whitepaper`
//= ZSSP-SUI-14  recorded as `zssp-0.4`, with its deviation in rekeying
//= ZSSP-SUI-15  or the first tag would differ
//= ZSSP-SUI-18  the recorded secret, out of that of FIPS 203
//= ZSSP-KDF-01  in every derived key
//= ZSSP-KDF-02  in every derived key
//= ZSSP-KDF-03  in every derived key
//= ZSSP-KDF-04  in every tag of the handshake
//= ZSSP-KDF-05  the recorded header keys, and the ratchet
//= ZSSP-KDF-06  the recorded header keys, the ratchet, and C1
//= ZSSP-KDF-07  the recorded transport keys
//= ZSSP-ZCP-01  behind the hello
//= ZSSP-ZCP-02  zero, zero, and the recorded `pow`
//= ZSSP-ZCP-03  or X2 would differ
//= ZSSP-PKT-01  byte for byte
//= ZSSP-PKT-02  byte for byte
//= ZSSP-PKT-03  byte for byte, with identities of 0 to 4096 bytes
//= ZSSP-PKT-04  byte for byte
//= ZSSP-PKT-05  byte for byte
//= ZSSP-PKT-08  byte for byte
//= ZSSP-PKT-09  byte for byte, with payloads of 0 to 16385 bytes
//= ZSSP-PKT-10  C1, C2 and payloads count together, Alice's and D from 0, Bob's from 1
//= ZSSP-PKT-11  byte for byte
//= ZSSP-PKT-12  byte for byte
//= ZSSP-PKT-13  byte for byte
//= ZSSP-XK-01  or X1 would differ
//= ZSSP-XK-02  or X1 would differ
//= ZSSP-XK-03  or X1 would differ
//= ZSSP-XK-04  or X1 would differ
//= ZSSP-XK-05  byte for byte
//= ZSSP-XK-06  the recorded header keys, in their directions
//= ZSSP-XK-07  byte for byte, with every kind of ratchet key
//= ZSSP-XK-08  byte for byte
//= ZSSP-XK-09  the recorded ratchet states
//= ZSSP-XK-10  the recorded transport keys, and C1
//= ZSSP-XK-11  one state and none
//= ZSSP-XK-12  with peers that never met
//= ZSSP-ST-23  C2, and payloads under the new key
//= ZSSP-RAT-01  both sides' stores, before and after
//= ZSSP-RAT-03  the recorded swaps, old and new
//= ZSSP-RAT-07  `fresh`
//= ZSSP-RAT-08  `responder-behind`, `responder-older`
//= ZSSP-RAT-10  every session that Bob accepts
//= ZSSP-RAT-13  every session that Alice opens
//= ZSSP-RAT-14  C1 swaps from the copy that X2 left, in every ratchet scenario
//= ZSSP-RAT-17  `responder-behind` by the first, `responder-older` by the second
//= ZSSP-RAT-18  `downgrade`, `initiator-lost`
//= ZSSP-RAT-19  states 1 and 2 and the zero key, one scenario each
//= ZSSP-RAT-20  `downgrade`
//= ZSSP-RAT-22  `initiator-lost`
//= ZSSP-FLG-05  `rejected`
//= ZSSP-KK-01  the scenarios `rekey`
//= ZSSP-KK-02  the scenarios `rekey`
//= ZSSP-KK-03  the scenarios `rekey`
//= ZSSP-KK-04  the scenarios `rekey`
//= ZSSP-KK-05  the scenarios `rekey`
//= ZSSP-KK-06  the scenarios `rekey`
//= ZSSP-KK-07  the scenarios `rekey`
//= ZSSP-PKT-06  the scenarios `rekey`
//= ZSSP-PKT-07  the scenarios `rekey`
//= ZSSP-SUI-17  the scenarios `rekey`
//= ZSSP-ZCP-12  `challenge`, as Alice reads it
//= ZSSP-ZCP-14  `challenge`, her answer
//= ZSSP-FLG-06  flags of each side
#[test]
fn recorded_sessions_are_replayed_byte_for_byte() {
    let directory = vectors::directory();
    say(&format!("recorded sessions of {}", directory.display()));
    replay_directory(&directory, say);
}

/// The repository's own sessions, so that none of them gets lost.
#[test]
fn the_repositorys_sessions_are_all_there() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/vectors");
    let names = [
        "whitepaper.challenge",
        "whitepaper.downgrade",
        "whitepaper.fresh",
        "whitepaper.fresh-small-mtu",
        "whitepaper.initiator-lost",
        "whitepaper.initiator-lost-refused",
        "whitepaper.known-ratchet",
        "whitepaper.max-identity",
        "whitepaper.one-time-password",
        "whitepaper.rejected",
        "whitepaper.rejected-silently",
        "whitepaper.rekey",
        "whitepaper.responder-behind",
        "whitepaper.responder-older",
        "zssp-0.4.rekey",
    ];
    let mut files: Vec<_> = names.iter().map(|name| format!("{name}.json")).collect();
    files.sort();
    assert_eq!(self::files(&directory), files);
}

/// A directory with one file that cannot be replayed, for whatever reason, is not replayed.
#[test]
fn a_file_that_cannot_be_replayed_is_a_failure() {
    let provider = providers().remove(0);
    let plan = plans().into_iter().find(|plan| plan.name == "initiator-lost").unwrap();
    let scenario = record(&plan, "ml-kem-1024", &provider).unwrap();
    let passes = |change: &dyn Fn(&mut Scenario, &Path)| {
        let directory = tempfile::tempdir().unwrap();
        scenario.save(directory.path()).unwrap();
        let mut other = scenario.clone();
        other.name = "other".into();
        change(&mut other, directory.path());
        catch_unwind(AssertUnwindSafe(|| replay_directory(directory.path(), |_| {}))).is_ok()
    };
    assert!(passes(&save_changed(|_| ())), "as it is");
    assert!(!passes(&save_changed(|scenario| scenario.variant = "ml-kem-768".into())), "an unknown variant");
    assert!(!passes(&save_changed(|scenario| scenario.events.truncate(20))), "cut short");
    assert!(!passes(&save_changed(lose)), "packets that were lost");
    assert!(
        !passes(&|scenario, directory| {
            scenario.save(directory).unwrap();
            fs::rename(directory.join("ml-kem-1024.other.json"), directory.join("another.json")).unwrap();
        }),
        "another name than its own"
    );
    assert!(!passes(&|_, directory| fs::write(directory.join("other.jsn"), "{}").unwrap()), "not a .json");
    assert!(!passes(&|_, directory| fs::write(directory.join("other.json"), "{}").unwrap()), "not a session");
}

/// Changes a session and saves it.
fn save_changed(change: impl Fn(&mut Scenario)) -> impl Fn(&mut Scenario, &Path) {
    move |scenario, directory| {
        change(scenario);
        scenario.save(directory).unwrap();
    }
}

/// Has every packet be lost.
fn lose(scenario: &mut Scenario) {
    for event in &mut scenario.events {
        if let Op::Send { dropped, .. } = &mut event.op {
            *dropped = true;
        }
    }
}

/// The sessions that the example `record` writes, with every provider on either side of the recording.
//= ZSSP-SUI-13  one provider's sessions, replayed with the other
#[test]
fn our_own_recordings_are_replayed_byte_for_byte() {
    for provider in providers() {
        let directory = tempfile::tempdir().unwrap();
        let mut written = 0;
        for (variant, _) in VARIANTS {
            for plan in plans() {
                let scenario = record(&plan, variant, &provider).unwrap();
                assert_complete(&scenario, plan.payloads.len());
                scenario.save(directory.path()).unwrap();
                written += 1;
            }
        }
        assert_eq!(replay_directory(directory.path(), |_| {}).len(), written);
    }
}

/// Whether everything that was sent arrived; a session in which nothing happens would replay, too.
fn assert_complete(scenario: &Scenario, payloads: usize) {
    let ops = || scenario.events.iter().map(|event| &event.op);
    let sent: Vec<_> = ops()
        .filter_map(|op| if let Op::SendPayload { payload } = op { Some(payload) } else { None })
        .collect();
    let seen: Vec<_> = ops()
        .filter_map(|op| if let Op::Event(Seen::Data { payload }) = op { Some(payload) } else { None })
        .collect();
    assert_eq!(sent.len(), payloads);
    assert!(sent == seen, "{}.{}", scenario.variant, scenario.name);
    let established = ops().any(|op| matches!(op, Op::Event(Seen::Established)));
    assert_eq!(established, payloads > 0, "{}.{}", scenario.variant, scenario.name);
    if established {
        assert_eq!(scenario.final_ratchets.alice, scenario.final_ratchets.bob);
    }
}

/// What Alice writes when she reads X2, for every state that the two memories can be in.
//= ZSSP-RAT-08  state 2 is the one that X2 opened with
//= ZSSP-RAT-09  or what it was, after a downgrade
//= ZSSP-RAT-10  Bob keeps none
//= ZSSP-RAT-13  and at last nobody does
#[test]
fn ratchets_are_stored_as_the_table_says() {
    enum Second {
        Initial1,
        Initial2,
        None,
    }
    let provider = providers().remove(0);
    for (name, second, chain_len) in [
        ("fresh", Second::Initial1, 1),
        ("known-ratchet", Second::Initial1, 6),
        ("initiator-lost", Second::Initial1, 1),
        ("responder-behind", Second::Initial1, 7),
        ("responder-holds-two", Second::Initial1, 7),
        ("responder-older", Second::Initial2, 6),
        ("downgrade", Second::None, 1),
        ("downgrade-with-two", Second::Initial2, 1),
    ] {
        let plan = plans().into_iter().find(|plan| plan.name == name).unwrap();
        let scenario = record(&plan, "ml-kem-1024", &provider).unwrap();
        let swaps = |who| {
            scenario.events.iter().filter_map(move |event| match &event.op {
                Op::SaveRatchet(change) if event.who == who => Some(change),
                _ => None,
            })
        };
        let initial = &scenario.initial_ratchets.alice;
        let expected = match second {
            Second::Initial1 => Some(initial.state1.clone()),
            Second::Initial2 => initial.state2.clone(),
            Second::None => None,
        };
        let (alice, bob) = (swaps(Who::Alice).next().unwrap(), swaps(Who::Bob).next().unwrap());
        assert!(alice.new_state2 == expected, "{name}: Alice's state 2");
        assert_eq!(alice.new_state1.chain_len, chain_len, "{name}");
        assert!(bob.new_state1 == alice.new_state1 && bob.new_state2.is_none(), "{name}: Bob's states");
        assert_eq!(swaps(Who::Bob).count(), 1, "{name}");
        for last in [&scenario.final_ratchets.alice, &scenario.final_ratchets.bob] {
            assert!(last.state1 == alice.new_state1 && last.state2.is_none(), "{name}: what remains");
        }
    }
}

/// A recording with one thing changed is not replayed, whatever it is: the comparison looks at everything.
#[test]
fn every_changed_step_is_noticed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/vectors");
    let provider = providers().remove(0);
    for name in ["whitepaper.known-ratchet.json", "whitepaper.rejected.json"] {
        let scenario = Scenario::load(&directory.join(name)).unwrap();
        for index in 0..scenario.events.len() {
            let mut changed = scenario.clone();
            let Event { op, who } = &mut changed.events[index];
            change(op);
            // Only the recorder's words for an error are its own.
            let (may_differ, who) = (matches!(op, Op::ReceiveError { .. }), *who);
            let result = replay(&changed, who, provider.clone());
            assert_eq!(result.is_ok(), may_differ, "{name}, event {index}: {result:?}");
            if matches!(changed.events[index].op, Op::Send { .. }) {
                let result = replay(&changed, who.peer(), provider.clone());
                assert!(result.is_err(), "{name}, event {index}: the other side read it");
            }
        }
        for who in SIDES {
            let mut changed = scenario.clone();
            let pair = match who {
                Who::Alice => &mut changed.final_ratchets.alice,
                Who::Bob => &mut changed.final_ratchets.bob,
            };
            pair.state1.key[0] ^= 1;
            assert!(replay(&changed, who, provider.clone()).is_err(), "{name}: final ratchet of {who:?}");
        }
    }
}

/// Changes something in a step that the side who did it has to notice.
fn change(op: &mut Op) {
    match op {
        Op::CheckAccept { identity, .. } => identity.push(0),
        Op::Event(seen) => {
            *seen = if *seen == Seen::Control { Seen::Established } else { Seen::Control };
        }
        Op::HeaderKeyRecv { key } | Op::HeaderKeySend { key } => key[31] ^= 1,
        Op::KemEncapsulate { shared_secret, .. } => shared_secret[31] ^= 1,
        Op::KemKeypair { public, .. } => public[1567] ^= 1,
        Op::P384Keypair { public, .. } | Op::P384StaticKeypair { public, .. } => public[48] ^= 1,
        Op::ReceiveError { error } => error.push('!'),
        Op::SaveRatchet(change) => change.new_state1.key[31] ^= 1,
        // Not the last byte of all: in a hello that is drawn as it was recorded.
        Op::Send { fragments, .. } => *fragments[0].last_mut().expect("a header at least") ^= 1,
        Op::SendPayload { payload } => payload.push(0),
        Op::TransportKeys { send, .. } => send[31] ^= 1,
    }
}
