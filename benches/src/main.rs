//! What a call costs.
//!
//! `plastron-load` starts a server and an agent of its own (release build, durability and audit on, limits by source
//! off), each held to one core, and drives them over their public APIs from the other. What is counted is the
//! processor time of the serving process, from `/proc`, for each call; with it, what this machine needs for the
//! operations that no server can do without. `BENCHMARKS.md` says how to run it and what came out.

mod calls;
mod fleet;
mod floor;
mod measure;
mod process;
mod scale;
mod sessions;
mod stage;
mod verify;
mod work;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use measure::Plan;

/// Measures what calls cost a server and an agent, in processor time.
///
/// Build both first: `cargo build --release -p server -p agent -p benches`, or run `cargo xtask bench`, which does.
#[derive(Debug, Parser)]
#[command(name = "plastron-load", version)]
struct Load {
    /// Folder of the binaries `plastron-server` and `plastron-agent`; by default, that of this one.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<std::path::PathBuf>,
    /// Only measurements whose name contains this.
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Runs of each measurement; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Calls in a run.
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Calls before the first run.
    #[arg(long, default_value_t = 2_000)]
    warm_up: usize,
    /// Entries for the measurements of size.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Agents that are connected, for the measurement of idle sessions.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Hosts with a TPM, for the measurement of a fleet.
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// How long the server of a fleet is away in the end, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    away: u64,
}

/// The core that drives; the serving processes have the other.
const OURS: usize = 1;

fn main() -> Result<()> {
    let load = Load::parse();
    let mut ours = CpuSet::new();
    ours.set(OURS)?;
    sched_setaffinity(Pid::from_raw(0), &ours).context("this takes two cores")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(load)))
}

async fn run(load: Load) -> Result<()> {
    let binaries = match load.binaries {
        Some(folder) => folder,
        None => std::env::current_exe()?
            .parent()
            .context("this program is in a folder")?
            .into(),
    };
    let plan = Plan {
        only: load.only,
        runs: load.runs,
        calls: load.calls,
        warm_up: load.warm_up,
    };
    let floor = floor::measure().await?;
    println!("{floor}");
    verify::run(&plan, &floor)?;
    work::run(&binaries, &plan, &floor).await?;
    scale::run(&binaries, &plan, load.entries).await?;
    sessions::run(&binaries, &plan, load.sessions).await?;
    fleet::run(&binaries, &plan, load.hosts, Duration::from_secs(load.away)).await
}
