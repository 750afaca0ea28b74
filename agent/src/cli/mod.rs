//! The command line. `run` is the agent; `api` is a client of the Workload API, as any workload is.

mod api;
mod health;
mod run;
mod tpm;

use std::{io, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use edge::{
    config::ConfigError,
    grpc::{Client, ConnectError},
    json::JsonError,
    manual::{self, Shell},
};
use tonic::Status;

use crate::{
    StartError,
    config::{self, Config, Unworkable},
};

/// Proves this host to a Plastron server, and gives the workloads on it their SPIFFE identities.
///
/// Workloads find the Workload API by `SPIFFE_ENDPOINT_SOCKET=unix:///run/plastron-agent/public/api.sock`; what a
/// program would get can be seen with `plastron-agent api fetch x509`.
#[derive(Debug, Parser)]
#[command(name = "plastron-agent", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls the Workload API as this process.
    #[command(subcommand)]
    Api(api::Command),
    /// Prints what completes the words of this command in a shell.
    ///
    /// Example: plastron-agent completions bash > /etc/bash_completion.d/plastron-agent
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Asks a running agent whether it can serve; exits with 1 if not.
    Healthcheck(health::Healthcheck),
    /// Writes the man pages, for whoever packages this.
    #[command(hide = true)]
    ManPages {
        /// Folder to write them to.
        folder: PathBuf,
    },
    /// Runs the agent.
    Run(run::Run),
    #[command(subcommand)]
    Tpm(tpm::Command),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads the configuration as `run` does, and says what is wrong with it.
    Check(ConfigArgs),
}

/// Where the configuration comes from.
#[derive(Args, Debug)]
struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Sets one key, over the file; may be repeated. Example: --set agent.server_port=8082
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// Replaces $NAME and ${NAME} in the file by environment variables.
    #[arg(long)]
    expand_env: bool,
}

/// How to reach the agent, and how to print what it says.
#[derive(Args, Clone, Debug)]
struct Common {
    /// The agent's socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// For people.
    Pretty,
    /// For programs.
    Json,
}

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A check refuses the evidence.
    #[error("something is refused; see the findings")]
    EvidenceRefused,
    /// A file can't be written.
    #[error("cannot write `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error("{0}")]
    Input(String),
    /// The answer can't be printed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The agent says that it can't serve.
    #[error("agent is not healthy")]
    NotHealthy,
    /// Nothing came within the time given.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(std::time::Duration),
    /// The runtime can't be started.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// The agent refused.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// The agent could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A task ended that should not.
    #[error("{0} ended unexpectedly; see the log")]
    Task(&'static str),
    /// The TPM can't be used.
    #[error(transparent)]
    Tpm(#[from] plugin_api::TpmError),
    /// A file can't be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing was judged: TPM, arguments or files can't be used.
    #[error(transparent)]
    Unusable(Box<Self>),
    /// The configuration can't work.
    #[error(transparent)]
    Unworkable(#[from] Unworkable),
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, CommandError> {
        let options = edge::config::Options {
            set: self.set.clone(),
            expand_env: self.expand_env,
        };
        let config: Config = edge::config::load(&self.config, &options)?;
        config.check()?;
        Ok(config)
    }
}

impl Common {
    /// Connects, and has `call` make its calls.
    async fn call<T>(
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

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// It could not be done; the error says what to do.
    pub fn execute(self) -> Result<(), CommandError> {
        match self.command {
            Command::Api(command) => block_on(command.execute()),
            Command::Completions { shell } => {
                line(&String::from_utf8_lossy(&manual::completions(
                    Self::command(),
                    shell,
                )));
                Ok(())
            }
            Command::Config(ConfigCommand::Check(args)) => {
                args.load()?;
                line(&format!("{} is good", args.config.display()));
                Ok(())
            }
            Command::Healthcheck(command) => block_on(command.execute()),
            Command::ManPages { folder } => man_pages(folder),
            Command::Run(command) => command.execute(),
            Command::Tpm(command) => command.execute().map_err(|error| match error {
                CommandError::EvidenceRefused => error,
                error => CommandError::Unusable(error.into()),
            }),
        }
    }
}

/// Writes the man pages into `path`.
fn man_pages(path: PathBuf) -> Result<(), CommandError> {
    manual::man_pages(Cli::command(), &path).map_err(|source| CommandError::File { path, source })
}

fn block_on(command: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(command)
}

/// Prints a line. A reader who went away is no error.
fn line(text: &str) {
    let _closed = io::Write::write_fmt(&mut io::stdout(), format_args!("{}\n", text.trim_end()));
}
