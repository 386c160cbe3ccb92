//! What every store must do when it is killed, on a disk that forgets.

use zssp_harness::store_kills::{Failure, Medium, survives_failures, survives_kills};

use super::crash::open;
use super::disk::{Disk, Fault, Survivors};
use crate::Redb;

impl Medium for Disk {
    type Store = Redb;

    fn open(&self) -> Option<Redb> {
        open(self).ok()
    }

    fn fail(&self, failure: Failure) {
        self.set_fault(match failure {
            Failure::From(operation) => Fault::From(operation),
            Failure::Once(operation) => Fault::Once(operation),
        });
    }

    fn has_failed(&self) -> bool {
        self.failed()
    }

    fn after_a_kill(&self, loss: u64) -> Self {
        let survivors = match loss {
            0 => Survivors::None,
            1 => Survivors::All,
            seed => Survivors::Some(seed),
        };
        Self::new(self.crash(survivors), Fault::Never)
    }
}

fn empty() -> Disk {
    Disk::new(Vec::new(), Fault::Never)
}

//= ZSSP-RAT-02  what was reported as stored is there after a kill
//= ZSSP-RAT-03  a write is old or new, never a mixture, never nothing
#[test]
fn a_kill_at_any_operation_leaves_the_old_pair_or_the_new_one() {
    survives_kills(empty);
}

//= ZSSP-RAT-05  an error of the disk passes; the next attempt works
#[test]
fn a_disk_that_fails_once_is_got_over() {
    survives_failures(empty);
}
