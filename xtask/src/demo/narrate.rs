//! A line for each step, with the time it took.

use std::{
    any::Any,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

/// What was told so far.
pub(super) struct Story {
    steps: usize,
    took: Duration,
}

impl Story {
    /// Begins. From here on, a panic is told as the failure of its step, and nowhere else.
    pub(super) fn begin() -> Self {
        set_hook(Box::new(|_| {}));
        Self {
            steps: 0,
            took: Duration::ZERO,
        }
    }

    /// Tells a step, and does it.
    ///
    /// # Errors
    ///
    /// That of `step`, or its panic: the software TPM is test code, which fails by one.
    pub(super) fn step<T>(&mut self, says: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.steps += 1;
        print!("{:2}. {says} … ", self.steps);
        std::io::stdout().flush()?;
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(step))
            .unwrap_or_else(|panic| Err(anyhow!(said(&*panic))))
            .with_context(|| says.to_owned());
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

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "it panicked".into())
}
