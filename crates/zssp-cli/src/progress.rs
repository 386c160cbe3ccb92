//! How far a transfer is: bars on a terminal, a line now and then elsewhere.

use std::{collections::HashMap, time::Duration};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{
    console::{Amount, Console, rate},
    transfer::{
        names::NamePath,
        run::{Event, FileNumber},
    },
};

// Both fit 80 columns.
const TOTAL: &str = "{prefix} {wide_bar} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
const FILE: &str = "  {bar:16} {percent:>3} %  {total_bytes:>11}  {wide_msg}";
/// Smaller files are over before one could read their names.
const WORTH_A_BAR: u64 = 8 << 20;
/// Reading less takes no time that anybody would ask about.
const WORTH_A_WORD: u64 = 256 << 20;
/// Where no bars are seen, a line says so often how far it is.
const LINES: Duration = Duration::from_secs(10);

/// One transfer, as the user sees it.
pub(crate) struct Progress {
    console: Console,
    total: ProgressBar,
    files: HashMap<FileNumber, ProgressBar>,
    /// What the receiver had of files that are under way, before this transfer sent any of it.
    kept: HashMap<NamePath, u64>,
    tally: Tally,
    started: Instant,
    /// When a line has said how far it is.
    told: Instant,
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Files that arrived and were verified.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Of those bytes, what had arrived earlier.
    pub(crate) kept: u64,
    /// Bytes that went over the wire.
    pub(crate) moved: u64,
    /// Files and folders that did not arrive.
    pub(crate) failed: u64,
    /// Files that arrived, and were changed by others meanwhile.
    pub(crate) changed: u64,
    pub(crate) elapsed: Duration,
}

impl Tally {
    /// The part of the summary that is the same on both sides.
    pub(crate) fn amount(&self) -> Amount {
        let Self { files, bytes, kept, elapsed, .. } = *self;
        Amount { files, bytes, kept, elapsed }
    }
}

impl Progress {
    /// A transfer that begins now; `total` bytes are expected. `label` says in which direction, and who.
    pub(crate) fn new(console: &Console, label: impl Into<String>, total: u64) -> Self {
        let bar = console.bars().add(ProgressBar::new(total).with_prefix(label.into()));
        style(&bar, TOTAL);
        let (files, kept) = (HashMap::new(), HashMap::new());
        let (tally, now) = (Tally::default(), Instant::now());
        Self { console: console.clone(), total: bar, files, kept, tally, started: now, told: now }
    }

    /// Counts and shows what happened, and says what is worth a line.
    pub(crate) fn observe(&mut self, event: Event) {
        match event {
            Event::Expected { bytes } => self.total.set_length(bytes),
            Event::Comparing { path, bytes } => {
                if bytes >= WORTH_A_WORD {
                    let bytes = HumanBytes(bytes);
                    self.console.note(format_args!("{path}: comparing the {bytes} that are there already"));
                }
            }
            Event::Begun { file, path, size, kept } => {
                // What an earlier connection brought, this transfer has sent.
                let first = self.kept.entry(path.clone()).or_insert(kept);
                *first = kept.min(*first);
                if kept > 0 {
                    self.console.note(format_args!("{path}: going on at byte {kept} of {size}"));
                }
                self.total.inc(kept);
                // Of what is done already the rate says nothing.
                self.total.reset_eta();
                if size >= WORTH_A_BAR {
                    let bar = self.console.bars().add(ProgressBar::new(size).with_message(path.to_string()));
                    style(&bar, FILE);
                    bar.set_position(kept);
                    self.files.insert(file, bar);
                }
            }
            Event::Anew { path, had } => self.console.note(format_args!(
                "{path}: it is not the file of which {} had arrived, and is sent from its beginning",
                HumanBytes(had)
            )),
            Event::Moved { file, bytes } => {
                self.tally.moved += bytes;
                self.total.inc(bytes);
                if let Some(bar) = self.files.get(&file) {
                    bar.inc(bytes);
                }
                self.tell_now_and_then();
            }
            Event::Stored { file, path, size } => {
                self.end(file);
                self.tally.files += 1;
                self.tally.bytes += size;
                self.tally.kept += self.kept.remove(&path).unwrap_or(0);
                self.console.detail(format_args!("{path}"));
            }
            Event::Changed { path } => {
                self.tally.changed += 1;
                self.console.error(format_args!(
                    "{path}: it changed while it was sent, and has arrived as it was read: perhaps partly old, partly new"
                ));
            }
            Event::Present { path, size } => {
                self.total.inc(size);
                self.tally.files += 1;
                self.tally.bytes += size;
                self.tally.kept += size;
                self.console.detail(format_args!("{path}: it is there already"));
            }
            Event::Failed { file, path, why } => {
                file.inspect(|file| self.end(*file));
                self.tally.failed += 1;
                match path {
                    Some(path) => self.console.error(format_args!("{path}: {why}")),
                    None => self.console.error(format_args!("something from this sender: {why}")),
                }
            }
            Event::NotReached { count } => {
                self.tally.failed += count;
                self.console.error(format_args!("{count} more were not sent for the same reason"));
            }
        }
    }

    /// Says how far it is, to those who see no bars.
    fn tell_now_and_then(&mut self) {
        if self.told.elapsed() < LINES || !self.console.bars().is_hidden() {
            return;
        }
        self.told = Instant::now();
        let (moved, time) = (self.tally.moved, self.started.elapsed());
        self.console.note(format_args!(
            "{}: {} of {}, {}/s",
            self.total.prefix(),
            HumanBytes(self.total.position()),
            HumanBytes(self.total.length().unwrap_or(0)),
            HumanBytes(rate(moved, time))
        ));
    }

    /// The connection is over, and with it what was under way on it.
    pub(crate) fn broken(&mut self) {
        for bar in std::mem::take(&mut self.files).into_values() {
            // It is counted again as kept, if it is.
            self.total.set_position(self.total.position().saturating_sub(bar.position()));
            self.console.bars().remove(&bar);
        }
    }

    fn end(&mut self, file: FileNumber) {
        if let Some(bar) = self.files.remove(&file) {
            bar.finish_and_clear();
            self.console.bars().remove(&bar);
        }
    }

    /// What came of it so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally { elapsed: self.started.elapsed(), ..self.tally }
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.broken();
        self.total.finish_and_clear();
        self.console.bars().remove(&self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Output, transfer::names::Name};

    #[tokio::test(start_paused = true)]
    async fn where_no_bars_are_seen_a_line_says_now_and_then_how_far_it_is() {
        let console = Console::new(Output { verbose: false, quiet: false });
        console.bars().set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let path = NamePath::root(Name::from_os("a".as_ref()).unwrap());
        let mut progress = Progress::new(&console, "to bob", 100 << 20);
        progress.observe(Event::Begun { file: 1, path, size: 100 << 20, kept: 20 << 20 });
        let before = console.said();
        for _ in 0..50 {
            progress.observe(Event::Moved { file: 1, bytes: 1 << 20 });
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        let said = console.said();
        let lines: Vec<_> = said.strip_prefix(&before).unwrap().lines().collect();
        assert_eq!(
            lines,
            ["to bob: 41.00 MiB of 100.00 MiB, 2.10 MiB/s", "to bob: 61.00 MiB of 100.00 MiB, 2.05 MiB/s"]
        );
    }

    #[test]
    fn only_what_takes_its_time_to_compare_is_worth_a_word() {
        let console = Console::new(Output { verbose: false, quiet: false });
        let path = NamePath::root(Name::from_os("a".as_ref()).unwrap());
        let mut progress = Progress::new(&console, "", 1 << 40);
        for bytes in [1 << 20, 3 << 30] {
            progress.observe(Event::Comparing { path: path.clone(), bytes });
        }
        assert_eq!(console.said(), "a: comparing the 3.00 GiB that are there already\n");
    }

    #[test]
    fn what_an_earlier_connection_of_the_same_transfer_brought_had_not_arrived_before() {
        let console = Console::new(Output { verbose: false, quiet: true });
        let path = NamePath::root(Name::from_os("a".as_ref()).unwrap());
        let begun = |file, kept| Event::Begun { file, path: path.clone(), size: 1000, kept };
        let mut progress = Progress::new(&console, "", 1000);
        progress.observe(begun(1, 500));
        progress.observe(Event::Moved { file: 1, bytes: 250 });
        assert_eq!(progress.tally().kept, 0, "it may never be complete");
        progress.broken();
        progress.observe(begun(2, 700));
        progress.observe(Event::Moved { file: 2, bytes: 300 });
        progress.observe(Event::Stored { file: 2, path: path.clone(), size: 1000 });
        let tally = progress.tally();
        assert_eq!((tally.files, tally.bytes, tally.kept, tally.moved), (1, 1000, 500, 550));
    }
}
