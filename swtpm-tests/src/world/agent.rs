//! An agent on this host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
};

use serde_json::Value;

use super::{
    Host, agent_id,
    daemon::Daemon,
    machine::Machine,
    output::{checked, read_json},
    programs::program,
};
use crate::tool::new_dir;

/// An agent that runs. Dropping it ends it and removes its state.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    id: String,
    daemon: Daemon,
    host: Host,
}

impl Agent {
    /// Starts an agent that trusts the server at `address` by `bundle`, and does not wait for it.
    #[must_use]
    pub fn start(address: &str, bundle: &Path, token: &str) -> Self {
        Self::start_on(Host::default(), address, bundle, token)
    }

    /// Does so on a host of its own.
    #[must_use]
    pub fn start_on(host: Host, address: &str, bundle: &Path, token: &str) -> Self {
        let settings = format!("{}join_token = \"{token}\"\n", trusting(bundle));
        Self::run(host, address, &settings, agent_id(token))
    }

    /// Starts an agent with further lines in `[agent]`, and does not wait for it.
    #[must_use]
    pub fn start_with(settings: &str, address: &str, bundle: &Path, token: &str) -> Self {
        let settings = format!("{}join_token = \"{token}\"\n{settings}", trusting(bundle));
        Self::run(Host::default(), address, &settings, agent_id(token))
    }

    /// Starts an agent that has these lines in `[agent]` to trust the server and prove itself by `token`, and does
    /// not wait for it.
    #[must_use]
    pub fn configured(settings: &str, address: &str, token: &str) -> Self {
        Self::run(Host::default(), address, settings, agent_id(token))
    }

    /// The same, on a machine with a TPM.
    #[must_use]
    pub fn on(machine: &Machine, address: &str, bundle: &Path) -> Self {
        Self::on_host(Host::default(), machine, address, bundle)
    }

    /// The same, where a test wants the machine to have more than a TPM.
    #[must_use]
    pub fn on_host(host: Host, machine: &Machine, address: &str, bundle: &Path) -> Self {
        let settings = format!("{}{}", trusting(bundle), machine.settings());
        Self::run(host, address, &settings, machine.agent_id())
    }

    /// The same, on a copy of the data directory of another agent.
    ///
    /// # Panics
    ///
    /// It can't be copied.
    #[must_use]
    pub fn on_copy_of(other: &Self, machine: &Machine, address: &str, bundle: &Path) -> Self {
        let mut thief = Self::on(machine, address, bundle);
        thief.daemon.kill();
        fs::create_dir_all(thief.data_dir()).unwrap();
        for file in fs::read_dir(other.data_dir()).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), thief.data_dir().join(file.file_name())).unwrap();
        }
        thief.restart();
        thief
    }

    fn run(host: Host, address: &str, settings: &str, id: String) -> Self {
        let dir = new_dir();
        let path = dir.join("agent.toml");
        let data_dir = host.data_dir().unwrap_or_else(|| dir.join("data"));
        fs::write(&path, config(&dir, &data_dir, address, settings)).unwrap();
        Self {
            daemon: run(&host, &path),
            dir,
            id,
            host,
        }
    }

    /// Where it keeps its state.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Ends the agent as a power failure does, and starts it again on what it left.
    pub fn restart(&mut self) {
        self.daemon.kill();
        self.daemon = run(&self.host, &self.dir.join("agent.toml"));
    }

    /// Waits until the agent ends by itself; says how, and what it said.
    ///
    /// # Panics
    ///
    /// It takes too long.
    pub fn end(&mut self) -> (ExitStatus, String) {
        self.daemon.end()
    }

    /// What it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its process.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Its SPIFFE ID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What workloads have as `SPIFFE_ENDPOINT_SOCKET`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Runs `plastron-agent` with `words`, and returns what it printed.
    ///
    /// # Panics
    ///
    /// It fails.
    #[must_use]
    pub fn cli(&self, words: &[&str]) -> Value {
        read_json(&checked(self.outcome(words)))
    }

    /// Runs `plastron-agent` with `words`, whatever comes of it.
    ///
    /// # Panics
    ///
    /// It can't be started.
    #[must_use]
    pub fn outcome(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Follows what the Workload API gives to this process.
    #[must_use]
    pub fn watch(&self) -> Daemon {
        Daemon::start(&mut self.command(&["api", "watch"]))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(program("plastron-agent"));
        command.args(words).args(["--output", "json", "--socket-path"]);
        command.arg(self.socket());
        command
    }

    /// Its Workload API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.daemon.kill();
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn run(host: &Host, config: &Path) -> Daemon {
    let mut command = host.command(program("plastron-agent"));
    Daemon::start(command.arg("run").arg("--config").arg(config))
}

/// A line that has an agent trust the server by `bundle`.
fn trusting(bundle: &Path) -> String {
    format!("trust_bundle_path = \"{}\"\n", bundle.display())
}

/// The configuration; `settings` may end in tables.
fn config(dir: &Path, data_dir: &Path, address: &str, settings: &str) -> String {
    let (host, port) = address.split_once(':').unwrap();
    let (dir, data_dir) = (dir.display(), data_dir.display());
    format!(
        r#"[agent]
trust_domain = "example.org"
server_address = "{host}"
server_port = {port}
socket_path = "{dir}/agent.sock"
data_dir = "{data_dir}"
log_format = "json"
log_level = "debug"
{settings}"#
    )
}
