//! A week of two peers whose processes die at any moment, over real stores: files that are reopened, and disks that
//! crash at any operation of theirs (PROTOCOL 5.5).
//!
//! A seed that fails is printed; `ZSSP_SEED` runs it alone. Hundreds of them, at a second or two each:
//! `ZSSP_SEEDS=500 cargo test --release -p zssp-store --lib week`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use tempfile::TempDir;
use zssp_harness::life::{Life, Storage, World, live};
use zssp_harness::pair::FlakyStore;
use zssp_sim::{Address, seeds};

use super::crash::open;
use super::disk::{Disk, Fault, Survivors};
use crate::Redb;

/// A file for each side.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        // The disks below are the ones that forget; here nobody need wait for one.
        let ram = Path::new("/dev/shm");
        Self(if ram.is_dir() { tempfile::tempdir_in(ram) } else { tempfile::tempdir() }.unwrap())
    }

    fn path(&self, node: Address) -> PathBuf {
        self.0.path().join(node.to_string())
    }
}

impl Storage for Files {
    fn die(&mut self, node: Address, store: Arc<FlakyStore>, random: &mut Xoshiro256PlusPlus) {
        let (path, killed) = (self.path(node), self.0.path().join("killed"));
        // Who is killed closes nothing, so what it leaves is the file as it is now.
        let is_killed = random.random_bool(0.5);
        if is_killed {
            fs::copy(&path, &killed).unwrap();
        }
        drop(Arc::into_inner(store).expect("nobody else has the file open"));
        if is_killed {
            fs::rename(&killed, &path).unwrap();
        }
    }

    fn open(&mut self, node: Address, _random: &mut Xoshiro256PlusPlus) -> FlakyStore {
        FlakyStore::over(Redb::open(self.path(node)).unwrap())
    }
}

/// A disk for each side, and how often one has crashed by itself, in the middle of an operation.
#[derive(Default)]
struct Disks {
    disks: [Option<Disk>; 2],
    images: [Vec<u8>; 2],
    crashes: u32,
}

impl Disks {
    /// The power goes, or only the process; `false`: it was gone already.
    fn crash(&mut self, disk: &Disk, random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
        self.crashes += u32::from(disk.failed());
        disk.crash(match random.random_range(0..3) {
            0 => Survivors::All,
            1 => Survivors::None,
            _ => Survivors::Some(random.random()),
        })
    }
}

impl Storage for Disks {
    fn die(&mut self, node: Address, store: Arc<FlakyStore>, random: &mut Xoshiro256PlusPlus) {
        let side = usize::from(node - 1);
        let disk = self.disks[side].take().expect("the disk of a process that lived");
        // Before the store is dropped, which would write.
        self.images[side] = self.crash(&disk, random);
        drop(store);
    }

    fn open(&mut self, node: Address, random: &mut Xoshiro256PlusPlus) -> FlakyStore {
        let side = usize::from(node - 1);
        loop {
            let image = core::mem::take(&mut self.images[side]);
            let is_sound = image.is_empty() || random.random_bool(0.3);
            let fault = if is_sound { Fault::Never } else { Fault::From(random.random_range(0..400)) };
            let disk = Disk::new(image, fault);
            match open(&disk) {
                Ok(store) => {
                    self.disks[side] = Some(disk);
                    return FlakyStore::over(store);
                }
                Err(error) => {
                    assert!(disk.failed(), "a crash must leave a store that opens: {error}");
                    self.images[side] = self.crash(&disk, random);
                }
            }
        }
    }
}

fn check(life: &Life) {
    assert!(life.keys > 150 && life.deaths > 20, "{life:?}");
    // Of the long ones, each of four datagrams must get through.
    assert!(life.payloads.sent > 10_000 && life.payloads.delivered > life.payloads.sent / 4, "{life:?}");
}

//= ZSSP-RAT-02  the ratchet outlives the process
//= ZSSP-RAT-14  and always equals the session's own copy
//= ZSSP-FLG-07  persistent mode holds out
#[test]
fn a_week_over_files_that_are_reopened_loses_nobody() {
    seeds::run(6, |seed| check(&live(&World::week(seed), &mut Files::new(), seed)));
}

//= ZSSP-RAT-02  what was reported as stored is there after the crash
//= ZSSP-RAT-03  and what was not is there or not, never a mixture
//= ZSSP-FLG-07  persistent mode holds out
#[test]
fn a_week_over_disks_that_crash_loses_nobody() {
    // A disk crashed at the very end of a good moment, and another hardly ever: faults of the simulation.
    const FAILED_ONCE: [u64; 3] = [52, 188, 625];
    let (weeks, crashes) = (Cell::new(0), Cell::new(0));
    seeds::run_with(&FAILED_ONCE, 6, |seed| {
        let mut disks = Disks::default();
        check(&live(&World::week(seed), &mut disks, seed));
        weeks.set(weeks.get() + 1);
        crashes.set(crashes.get() + disks.crashes);
    });
    assert!(crashes > weeks, "{crashes:?} crashes in the middle of an operation, in {weeks:?} weeks");
}
