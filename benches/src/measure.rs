//! Runs of calls, and what came out.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{floor::Floor, process::cpu};

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) only: String,
    pub(crate) runs: usize,
    pub(crate) calls: usize,
    pub(crate) warm_up: usize,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// Process whose time is counted.
    pub(crate) process: u32,
    /// Calls at once.
    pub(crate) parallel: usize,
    /// What one call counts for.
    pub(crate) units: usize,
    /// Processor time that is aimed at for each unit, in µs.
    pub(crate) target: f64,
}

impl Plan {
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// How many calls a measurement makes in all.
    pub(crate) fn all_calls(&self, units: usize) -> usize {
        self.warm_up.div_ceil(units) + self.runs * self.calls.div_ceil(units)
    }

    /// Makes the calls, numbered from 0, and prints what one costs.
    pub(crate) async fn measure<F>(
        &self,
        subject: Subject,
        floor: &Floor,
        call: impl Fn(usize) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let (warm_up, calls) = (
            self.warm_up.div_ceil(subject.units),
            self.calls.div_ceil(subject.units),
        );
        make(0..warm_up, subject.parallel, &call).await?;
        let (mut used, mut took) = (Vec::new(), Vec::new());
        for run in 0..self.runs {
            let first = warm_up + run * calls;
            let (before, begun) = (cpu(subject.process)?, Instant::now());
            make(first..first + calls, subject.parallel, &call).await?;
            let all = calls * subject.units;
            used.push(each(cpu(subject.process)?.saturating_sub(before), all));
            took.push(each(begun.elapsed(), all));
        }
        print(&subject, used, took, floor);
        Ok(())
    }
}

async fn make<F>(numbers: std::ops::Range<usize>, parallel: usize, call: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let calls = stream::iter(numbers).map(|number| Ok(call(number)));
    calls
        .try_buffer_unordered(parallel)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "calls are counted in thousands")]
fn each(time: Duration, calls: usize) -> f64 {
    time.as_secs_f64() * 1e6 / calls as f64
}

fn print(subject: &Subject, mut used: Vec<f64>, mut took: Vec<f64>, floor: &Floor) {
    used.sort_by(f64::total_cmp);
    took.sort_by(f64::total_cmp);
    let median = middle(&used);
    let (least, most) = (
        used.first().copied().unwrap_or_default(),
        used.last().copied().unwrap_or_default(),
    );
    println!(
        "{:34} {median:8.1} µs CPU ({least:.1} to {most:.1}; target {:.0}: {}; {:.1} × sign)  {:8.1} µs wall",
        subject.name,
        subject.target,
        if median <= subject.target { "met" } else { "MISSED" },
        median / (floor.sign.as_secs_f64() * 1e6),
        middle(&took),
    );
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
