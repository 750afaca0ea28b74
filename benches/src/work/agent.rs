//! Calls to the agent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{
    calls,
    floor::Floor,
    measure::{Plan, Subject},
    process::memory,
    stage::Stage,
};

/// How often the way from an entry to a workload is timed.
const PUSHES: usize = 200;
/// Streams of workloads for their memory.
const STREAMS: usize = 1000;

pub(super) async fn run(stage: &Stage, plan: &Plan, floor: &Floor) -> Result<()> {
    if ![
        "FetchX509SVID, warm",
        "FetchX509SVID, new connection",
        "push",
        "memory",
    ]
    .iter()
    .any(|name| plan.wants(name))
    {
        return Ok(());
    }
    let token = calls::tokens(&stage.socket(), 1)
        .await?
        .pop()
        .context("no token")?;
    let agent = stage.agent(&token).await?;
    let parent = format!("/spire/agent/join_token/{token}");
    let admin = calls::local(&stage.socket()).await?;
    let idle = memory(agent.id())?;
    calls::create(admin.clone(), vec![calls::entry(&parent, "/load")]).await?;
    let workload = calls::local(&stage.agent_socket()).await?;
    while calls::fetch(workload.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let subject = |name, target| Subject {
        name,
        process: agent.id(),
        parallel: 8,
        units: 1,
        target,
    };
    if plan.wants("FetchX509SVID, warm") {
        plan.measure(subject("FetchX509SVID, warm", 75.0), floor, |_| async {
            ensure!(calls::fetch(workload.clone()).await? == 1);
            Ok(())
        })
        .await?;
    }
    if plan.wants("FetchX509SVID, new connection") {
        let socket = stage.agent_socket();
        plan.measure(
            subject("FetchX509SVID, new connection", 150.0),
            floor,
            |_| async {
                ensure!(calls::fetch(calls::local(&socket).await?).await? == 1);
                Ok(())
            },
        )
        .await?;
    }
    if plan.wants("memory") {
        println!("{:34} {:8.1} MB (target 18)", "agent, idle", megabytes(idle));
        streams(stage, agent.id()).await?;
    }
    // Last: what it creates would be in every stream.
    if plan.wants("push") {
        pushes(stage, &parent).await?;
    }
    Ok(())
}

/// The time from the answer to a new entry to its SVID in a workload that waits.
async fn pushes(stage: &Stage, parent: &str) -> Result<()> {
    let admin = calls::local(&stage.socket()).await?;
    let mut stream = calls::follow(calls::local(&stage.agent_socket()).await?).await?;
    let mut have = stream.message().await?.context("no answer")?.svids.len();
    let mut took = Vec::new();
    for number in 0..PUSHES {
        let begun = Instant::now();
        calls::create(
            admin.clone(),
            vec![calls::entry(parent, &format!("/push/{number}"))],
        )
        .await?;
        while stream.message().await?.context("stream ended")?.svids.len() <= have {}
        have += 1;
        took.push(begun.elapsed());
    }
    took.sort();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    println!(
        "{:34} {:8.1} ms median (target 20), {:.1} ms at 99 % (target 60)",
        "push: create entry to SVID",
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3
    );
    Ok(())
}

async fn streams(stage: &Stage, agent: u32) -> Result<()> {
    let before = memory(agent)?;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = calls::follow(calls::local(&stage.agent_socket()).await?).await?;
        stream.message().await?.context("no answer")?;
        open.push(stream);
    }
    let more = memory(agent)?.saturating_sub(before);
    println!(
        "{:34} {:8.1} MB over idle (target 35)",
        "agent, 1,000 workload streams",
        megabytes(more)
    );
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are rounded to tenths of megabytes"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
