//! How far a transfer is: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::console::{Amount, Console, rate};

/// Lines without a terminal come no more often than this, and ever more rarely the longer it takes.
const LINE_EVERY: Duration = Duration::from_secs(2);
const LINE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

const BAR: &str = "{prefix} {bar:24} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";

/// One transfer, as the user sees it.
pub(crate) struct Progress {
    console: Console,
    /// What is said before everything: the direction, and who.
    label: String,
    bar: ProgressBar,
    total: u64,
    bytes: u64,
    files: u64,
    failed: u64,
    started: Instant,
    last_line: Instant,
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Files that arrived and were verified.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Files and folders that did not arrive.
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
}

impl Tally {
    /// The part of the summary that is the same on both sides.
    pub(crate) fn amount(&self) -> Amount {
        Amount { files: self.files, bytes: self.bytes, elapsed: self.elapsed }
    }
}

impl Progress {
    /// A transfer that begins now; `total` bytes are expected.
    pub(crate) fn new(console: &Console, label: impl Into<String>, total: u64) -> Self {
        let label = label.into();
        let bar = console.bars().add(ProgressBar::new(total).with_prefix(label.clone()));
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("=> "));
        }
        let now = Instant::now();
        let console = console.clone();
        Self { console, label, bar, total, bytes: 0, files: 0, failed: 0, started: now, last_line: now }
    }

    /// The number of bytes expected became known.
    pub(crate) fn expect(&mut self, total: u64) {
        self.total = total;
        self.bar.set_length(total);
    }

    /// Contents went through.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
        let pause = (self.started.elapsed() / 8).clamp(LINE_EVERY, LINE_AT_LEAST_EVERY);
        if self.console.tells_progress_in_lines() && self.last_line.elapsed() >= pause {
            self.last_line = Instant::now();
            let (done, total) = (self.bar.position(), self.total);
            let percent = (done as f64 / total.max(1) as f64 * 100.0) as u64;
            let rate = HumanBytes(rate(done, self.started.elapsed()));
            let label = &self.label;
            self.console.note(format_args!(
                "{label}: {percent} %, {} of {}, {rate}/s",
                HumanBytes(done),
                HumanBytes(total)
            ));
        }
    }

    /// A file arrived and was verified.
    pub(crate) fn stored(&mut self, size: u64) {
        self.files += 1;
        self.bytes += size;
    }

    /// So many files or folders did not arrive.
    pub(crate) fn failed(&mut self, count: u64) {
        self.failed += count;
    }

    /// What came of it so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally { files: self.files, bytes: self.bytes, failed: self.failed, elapsed: self.started.elapsed() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.console.bars().remove(&self.bar);
    }
}
