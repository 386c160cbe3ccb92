//! What the user reads: results on standard output, everything else on standard error.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::builder::styling::{AnsiColor, Effects, Style};
use indicatif::{HumanBytes, MultiProgress, ProgressDrawTarget};

use crate::{
    args::Output,
    exit::{Exit, Failure},
};

const RED: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const YELLOW: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);

/// The two output streams, and how much is said.
///
/// Clones write to the same place. Colours appear on a terminal only, and not where `NO_COLOR` is set.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    output: Output,
    bars: MultiProgress,
    /// Why results do not get to whom they are for.
    unread: Arc<OnceLock<io::Error>>,
    /// What went to standard error, were this not a test.
    #[cfg(test)]
    said: Arc<std::sync::Mutex<String>>,
}

impl Console {
    pub(crate) fn new(output: Output) -> Self {
        let visible = !output.quiet && io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            output,
            bars: MultiProgress::with_draw_target(target),
            unread: Arc::default(),
            #[cfg(test)]
            said: Arc::default(),
        }
    }

    /// Where progress bars live; hidden if nobody watches.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Something the user asked for: the only thing a script may want to read.
    pub(crate) fn result(&self, line: impl fmt::Display) {
        if let Err(error) = self.bars.suspend(|| write_line(anstream::stdout().lock(), &line)) {
            // The first says why.
            let _ = self.unread.set(error);
        }
    }

    /// Whether nobody reads results any more: then a command that gives nothing else has no reason to go on.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.get().is_some()
    }

    /// An error if results were lost that somebody wants. A reader that has gone away does not want them.
    pub(crate) fn expect_delivered(&self) -> Result<(), Failure> {
        match self.unread.get() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Local, format!("standard output cannot be written: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// As [`Console::result`], unless quiet was asked for.
    pub(crate) fn summary(&self, line: impl fmt::Display) {
        if !self.output.quiet {
            self.result(line);
        }
    }

    /// What goes on.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        if !self.output.quiet {
            self.to_stderr(line);
        }
    }

    /// What goes on, for those who want to know all of it.
    pub(crate) fn detail(&self, line: impl fmt::Display) {
        if self.output.verbose {
            self.to_stderr(line);
        }
    }

    /// Something that is probably not what the user wants.
    pub(crate) fn warn(&self, line: impl fmt::Display) {
        if !self.output.quiet {
            self.alarm(line);
        }
    }

    /// What even those who want to hear nothing but errors must know, though the command goes on.
    pub(crate) fn alarm(&self, line: impl fmt::Display) {
        self.to_stderr(format_args!("{YELLOW}warning:{YELLOW:#} {line}"));
    }

    /// Something that went wrong.
    pub(crate) fn error(&self, line: impl fmt::Display) {
        self.to_stderr(format_args!("{RED}error:{RED:#} {line}"));
    }

    #[cfg(test)]
    fn to_stderr(&self, line: impl fmt::Display) {
        self.said.lock().unwrap().push_str(&format!("{line}\n"));
    }

    /// What was said so far.
    #[cfg(test)]
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[cfg(not(test))]
    fn to_stderr(&self, line: impl fmt::Display) {
        // Without standard error there is nobody to tell.
        self.bars.suspend(|| drop(write_line(anstream::stderr().lock(), &line)));
    }
}

/// Writes a line in one piece, so that those of several processes on one terminal do not run into each other.
fn write_line(mut stream: impl Write, line: &impl fmt::Display) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

/// `3 files, 200.00 MiB in 1.25 s (160.00 MiB/s)`, and how much of it was there before.
pub(crate) struct Amount {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) kept: u64,
    pub(crate) elapsed: Duration,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, kept, elapsed } = self;
        let word = if *files == 1 { "file" } else { "files" };
        let seconds = elapsed.as_secs_f64();
        write!(
            f,
            "{files} {word}, {} in {seconds:.2} s ({}/s)",
            HumanBytes(*bytes),
            HumanBytes(rate(bytes.saturating_sub(*kept), *elapsed))
        )?;
        if *kept > 0 {
            write!(f, ", of which {} had arrived before", HumanBytes(*kept))?;
        }
        Ok(())
    }
}

/// Bytes per second.
pub(crate) fn rate(bytes: u64, elapsed: Duration) -> u64 {
    // A cast from a float saturates, so an instant is no division by zero.
    (bytes as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_reads_like_a_sentence() {
        let amount = Amount { files: 1, bytes: 200 << 20, kept: 0, elapsed: Duration::from_millis(1250) };
        assert_eq!(amount.to_string(), "1 file, 200.00 MiB in 1.25 s (160.00 MiB/s)");
        let rest = Amount { kept: 100 << 20, ..amount };
        assert_eq!(
            rest.to_string(),
            "1 file, 200.00 MiB in 1.25 s (80.00 MiB/s), of which 100.00 MiB had arrived before"
        );
        let nothing = Amount { files: 0, bytes: 0, kept: 0, elapsed: Duration::ZERO };
        assert_eq!(nothing.to_string(), "0 files, 0 B in 0.00 s (0 B/s)");
    }
}
