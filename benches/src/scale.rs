//! Many entries: memory, idle time, restart, and how fast they are made.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    calls,
    measure::Plan,
    process::{cpu, memory},
    stage::Stage,
    work::megabytes,
};

const BATCH: usize = 50;
const CALLERS: usize = 8;
const IDLE: Duration = Duration::from_secs(10);

/// Measures a server with `entries` entries.
pub(crate) async fn run(binaries: &Path, plan: &Plan, entries: usize) -> Result<()> {
    if !plan.wants("entries") {
        return Ok(());
    }
    let mut stage = Stage::set(binaries).await?;
    let idle = memory(stage.server.id())?;
    println!("{:34} {:8.1} MB (target 25)", "server, idle", megabytes(idle));
    let begun = Instant::now();
    create(&stage, entries).await?;
    let took = begun.elapsed();
    let a_second = entries as u64 * 1000 / u64::try_from(took.as_millis().max(1))?;
    println!(
        "{:34} {a_second:8} /s, durable (target 10,000)",
        "entries, batches of 50, 8 callers"
    );
    report(&stage, entries, idle)?;
    let before = cpu(stage.server.id())?;
    tokio::time::sleep(IDLE).await;
    let used = cpu(stage.server.id())?.saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("{:34} {used:8.2} % of a core (target 0.5)", "entries, idle");
    let begun = Instant::now();
    stage.restart_server().await?;
    println!(
        "{:34} {:8.2} s (target 1)",
        "entries, ready after restart",
        begun.elapsed().as_secs_f64()
    );
    report(&stage, entries, idle)
}

async fn create(stage: &Stage, entries: usize) -> Result<()> {
    let client = calls::local(&stage.socket()).await?;
    let batch = |number: usize| {
        let entry = |inner: usize| {
            let number = number * BATCH + inner;
            calls::entry(
                &format!("/spire/agent/x/{}", number / 100),
                &format!("/scale/{number}"),
            )
        };
        calls::create(client.clone(), (0..BATCH).map(entry).collect())
    };
    let batches = stream::iter(0..entries / BATCH).map(batch);
    batches
        .buffer_unordered(CALLERS)
        .try_for_each(|_| async { Ok(()) })
        .await
}

fn report(stage: &Stage, entries: usize, idle: u64) -> Result<()> {
    let more = memory(stage.server.id())?.saturating_sub(idle);
    println!(
        "{:34} {:8.1} MB over idle for {entries}",
        "entries, memory",
        megabytes(more)
    );
    Ok(())
}
