//! Sessions whose ratchets live in files: passwords before the first contact, restarts, files of yesterday.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use zeroize::Zeroizing;
use zssp_harness::pair::{FlakyStore, Happening, Pair, Setup};
use zssp_proto::crypto::AwsLc;
use zssp_proto::{Fault, OneTimePassword, Policy, RatchetPair, Role};
use zssp_store::{Overwrite, PresetError, Redb};

/// Two peers and the files of their stores.
struct World {
    pair: Pair,
    files: [PathBuf; 2],
    folder: TempDir,
}

impl World {
    fn new(policy: Policy) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = ["alice", "bob"].map(|name| folder.path().join(name));
        let mut world = Self { pair: Pair::with(1, &Setup { policy, ..Setup::default() }), files, folder };
        world.open_stores();
        world
    }

    fn open_stores(&mut self) {
        for (peer, file) in [&mut self.pair.alice, &mut self.pair.bob].into_iter().zip(&self.files) {
            peer.store = Arc::new(FlakyStore::over(Redb::open(file).unwrap()));
        }
    }

    /// Both processes end, `meanwhile` happens to their files, both start again.
    fn restart(&mut self, meanwhile: impl FnOnce(&[PathBuf; 2], &Pair)) {
        for peer in [&mut self.pair.alice, &mut self.pair.bob] {
            peer.store = Arc::default();
            peer.restart();
        }
        meanwhile(&self.files, &self.pair);
        self.open_stores();
    }

    /// What both are told when Alice opens a session.
    fn meet(&mut self) -> [Vec<Happening>; 2] {
        self.pair.alice.open(&self.pair.bob);
        // Long enough to give up.
        self.pair.drive_for(Duration::from_secs(200));
        [&mut self.pair.alice, &mut self.pair.bob].map(|peer| {
            let mut happenings = peer.take_happenings();
            happenings.retain(|happening| !matches!(happening, Happening::Asked | Happening::Ended(_)));
            happenings
        })
    }

    /// Both are given the same password, whose text is returned.
    fn preset_password(&mut self, overwrite: Overwrite) -> Zeroizing<String> {
        let text = OneTimePassword::generate(&AwsLc).unwrap().to_text();
        self.restart(|files, pair| {
            for (file, peer) in files.iter().zip([&pair.bob, &pair.alice]) {
                let password = OneTimePassword::from_text(&text).unwrap();
                let store = Redb::open(file).unwrap();
                let ratchet = password.into_ratchet(&AwsLc);
                store.preset(&peer.public_key().into(), ratchet, overwrite).unwrap();
            }
        });
        text
    }

    fn remembered(&self) -> [RatchetPair; 2] {
        let (alice, bob) = (&self.pair.alice, &self.pair.bob);
        [alice.store.remembered(bob.public_key()), bob.store.remembered(alice.public_key())]
    }
}

const MET: [&[Happening]; 2] =
    [&[Happening::Established(Role::Initiator)], &[Happening::Established(Role::Responder)]];

//= ZSSP-RAT-15  used once: it is gone after the first handshake, and not given again by mistake
//= ZSSP-RAT-16  both sides begin with it, chain length 1
#[test]
fn strangers_with_a_password_meet_where_strangers_without_hear_nothing() {
    let mut world = World::new(Policy::PERSISTENT);
    assert_eq!(world.meet(), [[], []], "without a password");

    let text = world.preset_password(Overwrite::Refuse);
    let of_password = world.remembered()[0].duplicate();
    assert_eq!(of_password.first.chain_length(), 1);
    assert_eq!(world.meet(), MET, "with one");
    for pair in world.remembered() {
        assert_eq!(pair.first.chain_length(), 2);
        assert!(!pair.contains(of_password.first.fingerprint()), "the password is used up");
    }
    world.restart(|files, pair| {
        let store = Redb::open(&files[0]).unwrap();
        let again = OneTimePassword::from_text(&text).unwrap().into_ratchet(&AwsLc);
        let refused = store.preset(&pair.bob.public_key().into(), again, Overwrite::Refuse);
        assert!(matches!(refused, Err(PresetError::Known)));
    });
    assert_eq!(world.meet(), MET, "and ever after");
}

//= ZSSP-RAT-02  the ratchet outlives the process
#[test]
fn the_ratchet_goes_on_after_every_restart() {
    let mut world = World::new(Policy::OPPORTUNISTIC);
    for chain_length in 1..=5 {
        assert_eq!(world.meet(), MET);
        let [alice, bob] = world.remembered();
        assert!(alice.same(&bob));
        assert_eq!((alice.first.chain_length(), alice.second.is_none()), (chain_length, true));
        world.restart(|_, _| ());
    }
}

/// Alice and Bob have met, and then Bob's file is replaced by a copy of it that is `sessions` sessions old.
fn world_with_an_older_copy(policy: Policy, sessions: usize) -> World {
    let mut world = World::new(policy);
    world.preset_password(Overwrite::Refuse);
    assert_eq!(world.meet(), MET);
    let copy = world.folder.path().join("copy");
    world.restart(|files, _| {
        fs::copy(&files[1], &copy).unwrap();
    });
    for _ in 0..sessions {
        assert_eq!(world.meet(), MET);
    }
    world.restart(|files, _| {
        fs::copy(&copy, &files[1]).unwrap();
    });
    world
}

//= ZSSP-RAT-22  a file of yesterday is a downgrade, and reported
#[test]
fn an_older_copy_of_the_file_is_survived_and_reported() {
    for sessions in [1, 2, 5] {
        let mut world = world_with_an_older_copy(Policy::OPPORTUNISTIC, sessions);
        let [alice, bob] = world.meet();
        assert!(alice.contains(&Happening::Established(Role::Initiator)), "{alice:?}");
        assert!(bob.contains(&Happening::Established(Role::Responder)), "{bob:?}");
        assert!(alice.contains(&Happening::Downgraded) && bob.contains(&Happening::Downgraded));
        assert_eq!(world.meet(), MET, "the ratchet is whole again");
        let [alice, bob] = world.remembered();
        assert!(alice.same(&bob));
    }
}

//= ZSSP-RAT-16  a new password puts both sides on one ratchet again
//= ZSSP-FLG-07  persistent mode does not go on without the ratchet
#[test]
fn an_older_copy_of_the_file_is_refused_where_the_flags_say_so() {
    let mut world = world_with_an_older_copy(Policy::PERSISTENT, 2);
    for _ in 0..2 {
        assert_eq!(world.meet(), [[], []]);
        let faults = world.pair.bob.take_faults();
        assert!(!faults.is_empty() && faults.iter().all(|fault| *fault == Fault::Unwelcome), "{faults:?}");
    }
    world.preset_password(Overwrite::Replace);
    assert_eq!(world.meet(), MET);
}
