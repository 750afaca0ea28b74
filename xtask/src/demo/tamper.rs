//! What becomes of a host that is tampered with while it runs.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    process::{Running, output, until},
    stage::{Stage, workload},
};

/// How long anything may take; an interval is two seconds.
const WITHIN: Duration = Duration::from_secs(30);
const QUARANTINED: &str = "FINDING_QUARANTINED";

/// A program that follows the Workload API, and holds its SVID.
pub(super) fn follow(stage: &Stage) -> Result<Running> {
    let mut program = stage.watch()?;
    until(&mut program, |program| program.printed().contains("/hello"))?;
    Ok(program)
}

/// Waits until the host is quarantined; answers with why.
pub(super) fn quarantined(stage: &Stage) -> Result<String> {
    let row = wait(stage, |row| finding(row) == QUARANTINED)?;
    let say = |name: &str| row.pointer(name).and_then(Value::as_str).unwrap_or_default();
    Ok(format!(
        "verdict: quarantined ({})\ndifference: {}",
        say("/verdict/code"),
        say("/verdict/difference")
    ))
}

/// Waits until the program is told that it has nothing any more; answers with what another one is told.
pub(super) fn lost(stage: &Stage, program: &mut Running) -> Result<String> {
    until(program, |program| {
        program.printed().contains("no identity issued")
    })?;
    let socket = stage.host().join("agent.sock");
    match output(&mut workload(
        &socket,
        &["api", "fetch", "x509", "--timeout", "2s"],
    )) {
        Ok(fetched) => bail!("a program on the host still gets an SVID:\n{fetched}"),
        Err(error) => {
            let error = error.to_string();
            Ok(format!(
                "a program that asks now: {}",
                error.lines().last().unwrap_or_default()
            ))
        }
    }
}

/// Releases the host, and waits until it is quarantined anew.
pub(super) fn released(stage: &Stage) -> Result<String> {
    let before = stage.host_row()?;
    let id = before.pointer("/id").and_then(Value::as_str);
    let id = id.context("a host has no identifier")?;
    output(&mut stage.operator(&["host", "release", "--id", id]))?;
    let released = |row: &Value| finding(row) == QUARANTINED;
    wait(stage, released)?;
    Ok("quarantined again: its PCRs are what they were".into())
}

fn finding(row: &Value) -> &str {
    row.pointer("/verdict/finding")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn wait(stage: &Stage, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let row = stage.host_row()?;
        if is_so(&row) {
            return Ok(row);
        }
        if begun.elapsed() > WITHIN {
            bail!("the host's verdict is: {row}");
        }
        sleep(Duration::from_millis(100));
    }
}
