//! The command line. `run` is the server; `audit`, `policy`, `restore` and `verify` read files; everything else talks to
//! a running server over its local socket.

mod agent;
mod audit;
mod backup;
mod bundle;
mod connect;
mod entry;
mod health;
mod host;
mod host_file;
mod jwt;
mod localauthority;
mod logger;
mod output;
mod policy;
mod run;
mod token;
mod upstreamauthority;
mod verify;
mod x509;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use edge::{
    Clock,
    manual::{self, Shell},
};

use crate::config::{self, Unworkable};
pub use connect::CommandError;
pub use entry::{EntryFileError, PlanError};
use output::Output;

/// Attests hosts and workloads, and issues SPIFFE identities to them.
///
/// A first start: write /etc/plastron/server.toml with a trust domain and a node attestor, check it with
/// `plastron-server config check`, start the service, then enrol a host (`host import`) or make a join token
/// (`token generate`), and register what runs on it (`entry create`).
#[derive(Debug, Parser)]
#[command(name = "plastron-server", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attested agents.
    #[command(subcommand)]
    Agent(agent::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    Backup(backup::Backup),
    /// The bundle that others verify our SVIDs with.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Prints what completes the words of this command in a shell.
    ///
    /// Example: plastron-server completions bash > /etc/bash_completion.d/plastron-server
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Registration entries: which workload on which node gets which SPIFFE ID.
    #[command(subcommand)]
    Entry(entry::Command),
    /// Asks a running server whether it can serve; exits with 1 if not.
    Healthcheck(health::Healthcheck),
    /// Hosts: the machines that may attest by TPM.
    #[command(subcommand)]
    Host(host::Command),
    /// JWT-SVIDs without a workload.
    #[command(subcommand)]
    Jwt(jwt::Command),
    /// The server's own signing authorities: replacing one by force.
    #[command(subcommand)]
    Localauthority(localauthority::Command),
    /// How much a running server logs.
    #[command(subcommand)]
    Logger(logger::Command),
    /// Writes the man pages, for whoever packages this.
    #[command(hide = true)]
    ManPages {
        /// Folder to write them to.
        folder: PathBuf,
    },
    #[command(subcommand)]
    Policy(policy::Command),
    Restore(backup::Restore),
    /// Runs the server.
    Run(run::Run),
    /// Join tokens: secrets that attest one agent, once.
    #[command(subcommand)]
    Token(token::Command),
    /// Authorities of others in the bundle: roots of the server's own, and what was appended.
    #[command(subcommand)]
    Upstreamauthority(upstreamauthority::Command),
    #[command(subcommand)]
    Verify(verify::Command),
    /// X509-SVIDs without a workload.
    #[command(subcommand)]
    X509(x509::Command),
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
    /// Sets one key, over the file; may be repeated. Example: --set server.bind_port=8082
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// Replaces $NAME and ${NAME} in the file by environment variables.
    #[arg(long)]
    expand_env: bool,
}

/// How to reach the server, and how to print what it says.
#[derive(Args, Clone, Debug)]
struct Common {
    /// The server's local socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    /// `pretty` for people, `json` for programs: field names and values are those of SPIRE's `-output json`.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

impl ConfigArgs {
    fn load(&self) -> Result<config::Config, CommandError> {
        let options = edge::config::Options {
            set: self.set.clone(),
            expand_env: self.expand_env,
        };
        let config: config::Config = edge::config::load(&self.config, &options)?;
        config.check()?;
        Ok(config)
    }
}

/// How many hosts a list names that `host import` would read.
///
/// # Errors
///
/// It is none; the error says where it is wrong.
pub fn count_listed_hosts(text: &str) -> Result<usize, host_file::HostFileError> {
    host_file::parse(text).map(|hosts| hosts.len())
}

/// How many entries a file holds that `entry create --data` would read.
///
/// # Errors
///
/// It is none; the error says where it is wrong.
pub fn count_listed_entries(text: &str) -> Result<usize, EntryFileError> {
    entry::count_listed(text)
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// It could not be done; the error says what to do.
    pub fn execute(self) -> Result<(), CommandError> {
        match self.command {
            Command::Agent(command) => connect::block_on(command.execute()),
            Command::Audit(command) => command.execute(),
            Command::Backup(command) => connect::block_on(command.execute()),
            Command::Bundle(command) => connect::block_on(command.execute()),
            Command::Completions { shell } => {
                output::line(&String::from_utf8_lossy(&manual::completions(
                    Self::command(),
                    shell,
                )));
                Ok(())
            }
            Command::Config(ConfigCommand::Check(args)) => {
                let config = args.load()?;
                // As `run` does when it starts.
                let upstream = config
                    .plugins
                    .upstream_authority(&config.server.trust_domain, Clock::system().now());
                upstream.map_err(Unworkable::from)?;
                output::line(&format!("{} is good", args.config.display()));
                Ok(())
            }
            Command::Entry(command) => connect::block_on(command.execute()),
            Command::Healthcheck(command) => connect::block_on(command.execute()),
            Command::Host(command) => connect::block_on(command.execute()),
            Command::Jwt(command) => connect::block_on(command.execute()),
            Command::Localauthority(command) => connect::block_on(command.execute()),
            Command::Logger(command) => connect::block_on(command.execute()),
            Command::ManPages { folder } => man_pages(folder),
            Command::Policy(command) => command.execute(),
            Command::Restore(command) => command.execute(),
            Command::Run(command) => command.execute(),
            Command::Token(command) => connect::block_on(command.execute()),
            Command::Upstreamauthority(command) => connect::block_on(command.execute()),
            Command::Verify(command) => command.execute(),
            Command::X509(command) => connect::block_on(command.execute()),
        }
    }
}

/// Writes the man pages into `path`.
fn man_pages(path: PathBuf) -> Result<(), CommandError> {
    manual::man_pages(Cli::command(), &path).map_err(|source| CommandError::File { path, source })
}
