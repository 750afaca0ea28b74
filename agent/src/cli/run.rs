//! `run`.

use std::time::{Duration, Instant};

use clap::Args;
use edge::{Clock, log};
use nix::sys::stat::{Mode, umask};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use super::{CommandError, ConfigArgs};
use crate::Agent;

/// How long threads may take to end that wait for the TPM or the disk, once all else has ended.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs the agent.
///
/// Ends on SIGTERM or SIGINT.
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        // What the agent writes is nobody else's; its socket gets its permissions explicitly.
        umask(Mode::from_bits_truncate(0o077));
        let config = self.config.load()?;
        let _level = log::init(config.agent.log_level, config.agent.log_format);
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(CommandError::Runtime)?;
        let ended = runtime.block_on(async {
            let agent = Agent::start(config, Clock::system()).await?;
            agent.run(stop_signal()).await.map_err(CommandError::Task)
        });
        end(runtime);
        ended?;
        info!("Agent stopped");
        Ok(())
    }
}

/// Ends what still runs. Threads that wait for the TPM can't be interrupted: they end with the process.
fn end(runtime: Runtime) {
    let began = Instant::now();
    runtime.shutdown_timeout(END_WITHIN);
    if began.elapsed() >= END_WITHIN {
        warn!(limit = ?END_WITHIN, "What was asked of the TPM, or of the disk, is not answered; the agent ends without");
    }
}

async fn stop_signal() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without the handler, the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}
