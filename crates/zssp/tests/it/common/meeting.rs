//! A place that two threads are in at the same time, or nobody gets past it.

use std::sync::Arc;

use tokio::sync::watch;

/// What whoever passes the place finds there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nobody gets past.
    Holding,
    /// Whoever comes waits for a second.
    Meeting,
    #[default]
    Open,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// How many have come in this phase and are still here.
    inside: usize,
}

/// Where threads that do some work meet: part of that work. Open, unless there is a [`Meeting`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<watch::Sender<State>>);

impl Place {
    /// Passes it, for which a thread may have to wait.
    pub(crate) fn pass(&self) {
        let mut phase = Phase::Open;
        self.0.send_if_modified(|state| {
            phase = state.phase;
            state.inside += usize::from(phase != Phase::Open);
            if phase == Phase::Meeting && state.inside == 2 {
                state.phase = Phase::Open;
            }
            phase != Phase::Open
        });
        if phase == Phase::Open {
            return;
        }
        // As a computation would, and not as a wait that tokio knows of: the other one has to come by itself.
        while self.0.borrow().phase == phase {
            std::thread::yield_now();
        }
    }
}

/// The test's hand on a place, which is open again when this is dropped: also when the test fails or hangs.
pub(crate) struct Meeting(Place);

impl Meeting {
    /// From now on nobody gets past.
    pub(crate) fn hold(place: &Place) -> Self {
        let meeting = Self(place.clone());
        meeting.enter(Phase::Holding);
        meeting
    }

    /// Waits until somebody is held.
    pub(crate) async fn holds(&self) {
        self.until(|state| state.inside > 0).await;
    }

    /// Lets go of who is held. From now on nobody gets past until two are there, then everybody does.
    pub(crate) fn begin(&self) {
        self.enter(Phase::Meeting);
    }

    /// Waits until two were there.
    pub(crate) async fn over(&self) {
        self.until(|state| state.phase == Phase::Open).await;
    }

    fn enter(&self, phase: Phase) {
        self.0.0.send_replace(State { phase, inside: 0 });
    }

    async fn until(&self, check: impl FnMut(&State) -> bool) {
        self.0.0.subscribe().wait_for(check).await.expect("the place is held here");
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.enter(Phase::Open);
    }
}
