//! A line for each step, with the time it took.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// What was told so far.
#[derive(Default)]
pub(super) struct Story {
    steps: usize,
    took: Duration,
}

impl Story {
    /// Tells a step, and does it.
    ///
    /// # Errors
    ///
    /// That of `step`.
    pub(super) fn step<T>(&mut self, says: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.steps += 1;
        print!("{:2}. {says} … ", self.steps);
        std::io::stdout().flush()?;
        let begun = Instant::now();
        let outcome = step().with_context(|| says.to_owned());
        self.took += begun.elapsed();
        println!(
            "{} ({:.2} s)",
            if outcome.is_ok() { "done" } else { "FAILED" },
            begun.elapsed().as_secs_f64()
        );
        outcome
    }

    /// Shows what a program printed.
    #[expect(clippy::unused_self, reason = "it belongs to the step before")]
    pub(super) fn show(&self, printed: &str) {
        for line in printed.trim().lines() {
            println!("      {line}");
        }
    }

    /// Ends it.
    pub(super) fn end(&self) {
        println!(
            "\nAll {} steps done in {:.1} s.",
            self.steps,
            self.took.as_secs_f64()
        );
    }
}
