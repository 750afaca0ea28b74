//! What is measured call by call.

mod agent;
mod server;
mod tpm;

use std::path::Path;

use anyhow::Result;

pub(crate) use agent::megabytes;

use crate::{floor::Floor, measure::Plan, stage::Stage};

/// Measures everything that the plan wants.
pub(crate) async fn run(binaries: &Path, plan: &Plan, floor: &Floor) -> Result<()> {
    let stage = Stage::set(binaries).await?;
    server::run(&stage, plan, floor).await?;
    agent::run(&stage, plan, floor).await?;
    tpm::run(&stage, plan, floor).await
}
