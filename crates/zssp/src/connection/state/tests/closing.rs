//! The end of a connection, where the peer is not there any more.

use super::*;

/// All was answered, and only the peer's last word is missing.
#[test]
fn a_peer_that_is_gone_when_all_was_answered_is_no_failure() {
    for idle_timeout in [None, Some(Duration::from_secs(3))] {
        let mut pair = Pair::with(Settings { idle_timeout, ..settings() });
        pair.lost = Box::new(|_, _| true);
        let now = pair.now;
        pair.ends[0].with(now, |state, effects| state.close(now, 0, b"", effects));
        pair.drive(Duration::from_secs(20), [true, true], &mut Default::default());
        assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Local), "{idle_timeout:?}");
    }
}

/// Each hears of the other's close while its own is on the way.
#[test]
fn two_that_close_at_once_have_both_done_so() {
    let mut pair = Pair::new();
    let now = pair.now;
    for end in &mut pair.ends {
        end.with(now, |state, effects| state.close(now, 0, b"", effects));
    }
    pair.settle();
    for end in &pair.ends {
        assert_eq!(end.state.ended(), Some(&CloseReason::Local));
        assert!(end.over);
    }
}
