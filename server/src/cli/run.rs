//! `run`.

use clap::Args;
use edge::{Clock, log};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, ConfigArgs};
use crate::Server;

/// Runs the server.
///
/// Ends on SIGTERM or SIGINT, after the calls under way are done.
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        // What the server writes is nobody else's; sockets get their permissions explicitly.
        umask(Mode::from_bits_truncate(0o077));
        let config = self.config.load()?;
        let log = log::init(config.server.log_level, config.server.log_format);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(CommandError::Runtime)?.block_on(async {
            let server = Server::start(config, Clock::system(), log).await?;
            server.run(stop_signal()).await.map_err(CommandError::Task)
        })
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
