//! What the receiving application knows of a transfer.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Which messages came. Once each, and the control messages in order: anything else is an error that ends the transfer.
#[derive(Default)]
pub(crate) struct Tally {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// One bit for each bulk message.
    seen: Vec<u64>,
    messages: u64,
    bytes: u64,
    controls: u64,
    /// How many bulk messages there are, once that is known.
    total: Option<u64>,
    wrong: Option<String>,
}

/// A transfer that is complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Complete {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) controls: u64,
}

impl Tally {
    /// For four thousand million messages.
    const MAX_WORDS: usize = 1 << 26;

    pub(crate) fn bulk(&self, number: u64, len: usize) {
        self.change(|state| {
            let word = usize::try_from(number / 64).ok().filter(|word| *word < Self::MAX_WORDS);
            let word = word.ok_or("a message has an impossible number")?;
            if state.seen.len() <= word {
                state.seen.resize((word + 1).next_power_of_two(), 0);
            }
            let bit = 1 << (number % 64);
            if state.seen[word] & bit != 0 {
                return Err("a message came twice");
            }
            state.seen[word] |= bit;
            state.messages += 1;
            state.bytes += len as u64;
            Ok(())
        });
    }

    /// A control message; the last one says how many bulk messages there are.
    pub(crate) fn control(&self, number: u64, total: Option<u64>) {
        self.change(|state| {
            if number != state.controls || state.total.is_some() {
                return Err("control messages came out of order");
            }
            state.controls += 1;
            state.total = total;
            Ok(())
        });
    }

    pub(crate) fn wrong(&self, what: impl ToString) {
        self.change(|_| Err(what));
    }

    /// What was wrong first, if anything.
    pub(crate) fn error(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wrong.clone()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Says what is wrong: a message twice, out of order, of other content; or nothing came for `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Result<Complete, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(wrong) = &state.wrong {
                return Err(wrong.clone());
            }
            if state.total == Some(state.messages) {
                let State { messages, bytes, controls, .. } = *state;
                return Ok(Complete { messages, bytes, controls });
            }
            let before = (state.messages, state.controls);
            let waited = self.changed.wait_timeout(state, patience);
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() && before == (state.messages, state.controls) {
                return Err(format!("nothing more comes, after {} messages", state.messages));
            }
        }
    }

    fn change<E: ToString>(&self, change: impl FnOnce(&mut State) -> Result<(), E>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(wrong) = change(&mut state) {
            state.wrong.get_or_insert_with(|| wrong.to_string());
        }
        // Nobody needs to know before it is over.
        if state.wrong.is_some() || state.total == Some(state.messages) {
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1);

    #[test]
    fn each_message_counts_once() {
        let tally = Tally::default();
        [2, 0, 1].iter().for_each(|number| tally.bulk(*number, 10));
        assert!(tally.wait(NOW).is_err(), "nobody said how many there are");
        tally.control(0, None);
        tally.control(1, Some(3));
        let complete = tally.wait(NOW).unwrap();
        assert_eq!((complete.messages, complete.bytes, complete.controls), (3, 30, 2));
        tally.bulk(1, 10);
        assert_eq!(tally.wait(NOW).unwrap_err(), "a message came twice");
    }

    #[test]
    fn control_messages_keep_their_order() {
        let tally = Tally::default();
        tally.control(1, None);
        assert_eq!(tally.wait(NOW).unwrap_err(), "control messages came out of order");
    }
}
