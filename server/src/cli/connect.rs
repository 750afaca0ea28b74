//! Reaching a running server.

use std::{io, path::PathBuf};

use edge::{
    config::ConfigError,
    grpc::{Client, ConnectError},
    json::JsonError,
};
use tonic::Status;

use super::{Common, EntryFileError, PlanError, host_file::HostFileError};
use crate::{StartError, backup::RestoreError, config::Unworkable, journal::ReadError};

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The audit trail can't be read, or is not what was written.
    #[error(transparent)]
    Audit(#[from] ReadError),
    /// What is printed can't be written.
    #[error("cannot print")]
    Print(#[source] io::Error),
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A dry run found something to do, and said it.
    #[error("the server differs from the file")]
    Differs,
    /// A file does not name entries.
    #[error("cannot read `{}`", path.display())]
    EntryFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: EntryFileError,
    },
    /// Evidence can't be read.
    #[error("cannot use `{}`", path.display())]
    Evidence {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Evidence was refused; each finding was said.
    #[error("evidence is refused")]
    EvidenceRefused,
    /// Some items of a batch failed; each was said.
    #[error("{failed} of {all} could not be {what}")]
    Items {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
        /// `created`, `deleted`, `enrolled`.
        what: &'static str,
    },
    /// A file can't be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not say which hosts to enrol.
    #[error("cannot import `{}`", path.display())]
    HostFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: HostFileError,
    },
    /// What was given makes no sense.
    #[error("{0}")]
    Input(String),
    /// The answer can't be printed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The server says that it can't serve.
    #[error("server is not healthy")]
    NotHealthy,
    /// A file of entries can't be brought about.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Evidence does not meet a policy; each difference was said.
    #[error("the policy is not met")]
    PolicyNotMet,
    /// The runtime can't be started.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// A backup can't be read or restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The server refused.
    #[error("{} ({})", .0.message(), code(.0))]
    Refused(Box<Status>),
    /// The server could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A task ended that should not.
    #[error("{0} ended unexpectedly; see the log")]
    Task(&'static str),
    /// Hosts would fall out, or might, and so nothing was changed; each was said.
    #[error("hosts would fall out, or might")]
    WouldFallOut,
    /// The configuration can't work.
    #[error(transparent)]
    Unworkable(#[from] Unworkable),
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

fn code(status: &Status) -> String {
    format!("{:?}", status.code())
}

/// Runs a command that talks to the server.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(command)
}

impl Common {
    /// Connects, and has `call` make its calls.
    pub(super) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let (client, connection) = edge::grpc::connect(&self.socket_path).await?;
        let mut connection = std::pin::pin!(connection);
        let mut calling = std::pin::pin!(call(client));
        tokio::select! {
            outcome = &mut calling => outcome,
            // When the connection is gone, the call knows it as well, and better.
            () = &mut connection => calling.await,
        }
    }
}
