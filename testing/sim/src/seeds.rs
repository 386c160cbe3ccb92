//! One scenario, many seeds; and the seed that failed, once more.

use std::thread;

/// The environment variable that reduces every scenario to one seed.
pub const VARIABLE: &str = "ZSSP_SEED";

/// The environment variable that says how many seeds every scenario runs with, instead of the few of an ordinary test.
pub const COUNT_VARIABLE: &str = "ZSSP_SEEDS";

/// Runs `scenario` with the seeds `0..count`, or with the first `ZSSP_SEEDS`, if that is set, or only with the seed in
/// `ZSSP_SEED`, if that is set.
///
/// The scenario must take everything random from its seed. When it panics, the seed and the way to run it alone
/// are printed, and the panic goes on.
///
/// ```
/// zssp_sim::seeds::run(100, |seed| {
///     let network = zssp_sim::Network::new(seed);
///     // ...
/// });
/// ```
///
/// # Panics
/// When a variable is set to something else than a number, and when the scenario panics.
pub fn run(count: u64, scenario: impl Fn(u64)) {
    run_with(&[], count, scenario);
}

/// [`run`]s `scenario` with the seeds in `kept` first, which have failed before.
///
/// # Panics
/// As [`run`].
pub fn run_with(kept: &[u64], count: u64, scenario: impl Fn(u64)) {
    let count = number_in(COUNT_VARIABLE).unwrap_or(count);
    for seed in selected(kept, count, number_in(VARIABLE)) {
        let _report = Report(seed);
        scenario(seed);
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| match text.trim().parse() {
        Ok(number) => number,
        Err(_) => panic!("{variable} is not a number: {text:?}"),
    })
}

fn selected(kept: &[u64], count: u64, only: Option<u64>) -> Vec<u64> {
    only.map_or_else(|| kept.iter().copied().chain(0..count).collect(), |seed| vec![seed])
}

/// Prints the seed when dropped by a panic.
struct Report(u64);

impl Drop for Report {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed with seed {0}; to run it alone: {VARIABLE}={0} cargo test ...", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn the_variable_selects_one_seed() {
        assert_eq!(selected(&[9], 3, None), [9, 0, 1, 2]);
        assert_eq!(selected(&[9], 3, Some(17)), [17]);
    }

    #[test]
    fn the_first_failing_seed_ends_the_run() {
        let seen = RefCell::new(Vec::new());
        let result = catch_unwind(AssertUnwindSafe(|| {
            run(10, |seed| {
                seen.borrow_mut().push(seed);
                assert_ne!(seen.borrow().len(), 3, "on purpose");
            });
        }));
        // With the variable set, only that seed runs, and this scenario passes with it.
        match std::env::var(VARIABLE) {
            Ok(_) => assert!(result.is_ok()),
            Err(_) => assert!(result.is_err() && *seen.borrow() == [0, 1, 2]),
        }
    }
}
