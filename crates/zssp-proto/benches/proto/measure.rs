//! Measuring two things alternately, and printing what came of it.

use std::time::{Duration, Instant};

/// Prints one line for each thing measured.
pub(crate) struct Report {
    /// Names to measure contain one of these; none is all.
    filters: Vec<String>,
    /// For profilers: do this many rounds of ours alone.
    alone: bool,
    section: Option<&'static str>,
}

/// What is measured.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    /// Operations in one sample.
    pub(crate) batch: u32,
    /// Bytes of payload in one operation, for the rate.
    pub(crate) bytes: usize,
    /// What it is compared with.
    pub(crate) base: &'static str,
}

/// The base of most cases: what the cryptographic library takes by itself.
pub(crate) const FLOOR: &str = "floor";

/// Rounds of a case: at least so many, and until the time is over.
const MIN_ROUNDS: usize = 50;
const TIME: Duration = Duration::from_millis(1500);
/// Rounds of ours under `--loop`.
const ALONE_ROUNDS: usize = 100;

impl Report {
    /// Takes the options that `cargo bench` adds for granted, and everything else as a part of the names wanted.
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> Self {
        let (options, filters): (Vec<_>, Vec<_>) = args.partition(|arg| arg.starts_with("--"));
        let alone = options.iter().any(|option| option == "--loop");
        Self { filters, alone, section: None }
    }

    /// Whether a case of this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }

    /// Whether a case was asked for by its whole name.
    pub(crate) fn named(&self, name: &str) -> bool {
        self.filters.iter().any(|filter| name == filter)
    }

    /// The cases that follow belong together.
    pub(crate) fn section(&mut self, title: &'static str) {
        self.section = Some(title);
    }

    /// Measures the base and `ours` in turn; each gives the time that one batch took, leaving out its preparations.
    pub(crate) fn compare(
        &mut self,
        case: &Case<'_>,
        mut base: impl FnMut() -> Duration,
        mut ours: impl FnMut() -> Duration,
    ) {
        if self.alone {
            for _ in 0..ALONE_ROUNDS {
                ours();
            }
            return;
        }
        let (mut bases, mut all_ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let start = Instant::now();
        while bases.len() < MIN_ROUNDS || start.elapsed() < TIME {
            // Taking turns at going first, so that neither always finds the caches of the other.
            let (b, o) = if bases.len() % 2 == 0 {
                let b = base();
                (b, ours())
            } else {
                let o = ours();
                (base(), o)
            };
            bases.push(b.as_secs_f64());
            all_ours.push(o.as_secs_f64());
            ratios.push(o.as_secs_f64() / b.as_secs_f64());
        }
        let batch = f64::from(case.batch);
        let (base, ours) = (quantile(&mut bases, 0.5) / batch, quantile(&mut all_ours, 0.5) / batch);
        let rate = match case.bytes {
            0 => String::new(),
            bytes => format!("{:6.2} GB/s", bytes as f64 / ours / 1e9),
        };
        self.line(&format!(
            "{:<24} {} {:>10}  ours {:>10}  ratio {:5.3} ({:.3}..{:.3})  {rate}",
            case.name,
            case.base,
            time(base),
            time(ours),
            quantile(&mut ratios, 0.5),
            quantile(&mut ratios, 0.25),
            quantile(&mut ratios, 0.75),
        ));
    }

    /// Measures something that has no floor.
    pub(crate) fn single(&mut self, name: &str, mut operation: impl FnMut()) {
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < MIN_ROUNDS || start.elapsed() < TIME / 4 {
            times.push(timed(&mut operation).as_secs_f64());
        }
        self.line(&format!("{name:<24} {:>10}", time(quantile(&mut times, 0.5))));
    }

    /// Prints a line of the current section.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(title) = self.section.take() {
            println!("\n{title}");
        }
        println!("  {}", line.trim_end());
    }
}

/// How long `work` takes.
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The value that the part `q` of `values` does not exceed.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

/// A time as text.
pub(crate) fn time(seconds: f64) -> String {
    let nanos = seconds * 1e9;
    if nanos < 10_000.0 { format!("{nanos:.1} ns") } else { format!("{:.2} us", nanos / 1e3) }
}

/// Random enough that no cache foresees it.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
