//! The whole system: a server, agents, and their command lines, as an operator has them.

mod agent;
mod cable;
mod daemon;
mod host;
mod machine;
mod output;
mod programs;
mod supervisor;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
};

use serde_json::Value;

pub use agent::Agent;
pub use cable::Cable;
pub use daemon::Daemon;
pub use host::Host;
pub use machine::{Machine, agent_cli, agent_outcome};
pub(crate) use programs::program;
pub use programs::{go_client, python_client, server_cli};

use crate::{ca::write_ca_certificates, ports, tool::new_dir};
use output::{checked, read_json, text};

/// A server and what it takes to start agents. Dropping it ends the server and removes its state.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    port: u16,
    settings: String,
    /// Lines of `[plugins.node-tpm]`; without them, join tokens alone attest.
    node_tpm: Option<String>,
    /// Tables of further plugins.
    plugins: String,
    /// The engine of its store.
    engine: &'static str,
    server: Option<Daemon>,
    host: Host,
}

impl World {
    /// Starts a server as it is by default, but that attests join tokens.
    #[must_use]
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts a server with further lines in `[server]`.
    #[must_use]
    pub fn with(settings: &str) -> Self {
        let mut world = Self::stopped(settings);
        world.start_server();
        world
    }

    /// Starts a server with these tables of plugins beside those that it has by default.
    #[must_use]
    pub fn with_plugins(tables: &str) -> Self {
        let mut world = Self::stopped("");
        tables.clone_into(&mut world.plugins);
        world.start_server();
        world
    }

    /// Starts a server on a host of its own.
    #[must_use]
    pub fn on(host: Host) -> Self {
        Self::on_with_store(host, "redb")
    }

    /// The same, with a store of `engine`.
    #[must_use]
    pub fn on_with_store(host: Host, engine: &'static str) -> Self {
        let mut world = Self::stopped("");
        world.host = host;
        world.engine = engine;
        world.start_server();
        world
    }

    /// Starts a server whose store is of `engine`.
    #[must_use]
    pub fn with_store(engine: &'static str) -> Self {
        Self::on_with_store(Host::default(), engine)
    }

    /// A server that is still to be started, on a port that nobody listens on.
    #[must_use]
    pub fn stopped(settings: &str) -> Self {
        Self {
            dir: new_dir(),
            port: ports::free(),
            settings: settings.to_owned(),
            node_tpm: None,
            plugins: String::new(),
            engine: "redb",
            server: None,
            host: Host::default(),
        }
    }

    /// Starts a server that attests by TPM, too, with further lines in `[server]` and in `[plugins.node-tpm]`. It
    /// trusts the maker of our TPMs.
    #[must_use]
    pub fn for_tpms(settings: &str, node_tpm: &str) -> Self {
        let mut world = Self::stopped(settings);
        let roots = world.dir.join("ek-roots");
        write_ca_certificates(&roots);
        world.node_tpm = Some(format!("ek_roots = \"{}\"\n{node_tpm}", roots.display()));
        world.start_server();
        world
    }

    /// Has further starts of the server, and restores, use a store of `engine`.
    pub fn use_store(&mut self, engine: &'static str) {
        self.engine = engine;
    }

    /// Where the server keeps its state.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.host.data_dir().unwrap_or_else(|| self.dir.join("data"))
    }

    /// Makes a data directory of the backup in `file`, whatever comes of it.
    ///
    /// # Panics
    ///
    /// The command can't be started.
    #[must_use]
    pub fn restore(&self, file: &Path, flags: &[&str]) -> Output {
        let mut command = self.host.command(program("plastron-server"));
        command.args(["restore", "--output", "json", "--config"]);
        command.arg(self.write_config()).arg("--file").arg(file);
        command.args(flags).output().unwrap()
    }

    /// Enrols a machine by the hash of its endorsement keys, and returns the row's identifier.
    #[must_use]
    pub fn enrol(&self, machine: &Machine) -> String {
        self.enrol_keys(machine.endorsement_keys())
    }

    /// Enrols a host by what `plastron-agent tpm ek` printed on it, and returns the row's identifier.
    ///
    /// # Panics
    ///
    /// The server does not take it.
    #[must_use]
    pub fn enrol_keys(&self, keys: &Value) -> String {
        let file = self.dir.join("host.json");
        fs::write(&file, keys.to_string()).unwrap();
        let imported = self.cli(&["host", "import", "--file", file.to_str().unwrap()]);
        text(&imported["results"][0]["host"]["id"])
    }

    /// Starts an agent on a machine that is enrolled, and waits until it serves.
    #[must_use]
    pub fn agent_with(&self, machine: &Machine) -> Agent {
        let agent = Agent::on(machine, &self.address(), &self.bundle());
        agent.daemon().wait_for("Agent ready");
        agent
    }

    /// What the server runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The server's process.
    ///
    /// # Panics
    ///
    /// It does not run.
    #[must_use]
    pub fn server(&self) -> &Daemon {
        self.server.as_ref().expect("a running server")
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Panics
    ///
    /// It does not start in time.
    pub fn start_server(&mut self) {
        self.launch_server();
        self.server().wait_for("Server ready");
    }

    /// Starts the server, and does not wait for it.
    ///
    /// # Panics
    ///
    /// It runs already.
    pub fn launch_server(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let config = self.write_config();
        let mut command = self.host.command(program("plastron-server"));
        self.server = Some(Daemon::start(command.arg("run").arg("--config").arg(&config)));
    }

    /// Ends the server as a power failure does.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Waits until the server ends by itself; says how, and what it said.
    ///
    /// # Panics
    ///
    /// It takes too long.
    pub fn server_end(&mut self) -> (ExitStatus, String) {
        self.server.take().expect("a running server").end()
    }

    /// Ends the server as a power failure does, and starts it again on what it left.
    pub fn restart_server(&mut self) {
        self.kill_server();
        self.start_server();
    }

    /// The server's local socket.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        self.dir.join("server.sock")
    }

    /// Where the server listens for agents.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs `plastron-server` with `words`, and returns what it printed.
    ///
    /// # Panics
    ///
    /// It fails.
    #[must_use]
    pub fn cli(&self, words: &[&str]) -> Value {
        read_json(&checked(self.outcome(words)))
    }

    /// Runs `plastron-server` with `words`, whatever comes of it.
    ///
    /// # Panics
    ///
    /// It can't be started.
    #[must_use]
    pub fn outcome(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program("plastron-server"));
        command.args(words).args(["--output", "json", "--socket-path"]);
        command.arg(self.server_socket()).output().unwrap()
    }

    /// Runs `plastron-server audit` with `words` on the trail of the server, and returns the lines that it printed.
    ///
    /// # Panics
    ///
    /// It fails.
    #[must_use]
    pub fn audit(&self, words: &[&str]) -> Vec<Value> {
        let mut command = Command::new(program("plastron-server"));
        command.arg("audit").args(words).arg("--data-dir");
        let shown = checked(command.arg(self.data_dir()).output().unwrap());
        let lines = String::from_utf8(shown.stdout).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Follows the audit trail of the server from its beginning, one record in JSON a line.
    #[must_use]
    pub fn follow_audit(&self) -> Daemon {
        let mut command = Command::new(program("plastron-server"));
        command.args(["audit", "tail", "--follow", "-n", "65535", "--output", "json"]);
        Daemon::start(command.arg("--data-dir").arg(self.data_dir()))
    }

    /// A new join token.
    #[must_use]
    pub fn token(&self) -> String {
        text(&self.cli(&["token", "generate"])["value"])
    }

    /// Registers a workload of this very user, and returns the entry's identifier.
    #[must_use]
    pub fn entry(&self, parent_id: &str, spiffe_id: &str, flags: &[&str]) -> String {
        let selector = format!("unix:uid:{}", uid());
        let mut words = vec![
            "entry",
            "create",
            "--parent-id",
            parent_id,
            "--spiffe-id",
            spiffe_id,
        ];
        words.extend(["--selector", &selector]);
        words.extend(flags);
        text(&self.cli(&words)["results"][0]["entry"]["id"])
    }

    /// Starts an agent that attests with `token`, and waits until it serves.
    #[must_use]
    pub fn agent(&self, token: &str) -> Agent {
        let agent = Agent::start(&self.address(), &self.bundle(), token);
        agent.daemon().wait_for("Agent ready");
        agent
    }

    /// Starts an agent on a host of its own, and does not wait for it.
    #[must_use]
    pub fn agent_on(&self, host: Host) -> Agent {
        let (bundle, token) = (self.bundle(), self.token());
        Agent::start_on(host, &self.address(), &bundle, &token)
    }

    /// Writes the bundle, as an operator would who copies it to a host.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        let path = self.dir.join("bundle.pem");
        let mut command = Command::new(program("plastron-server"));
        command.args(["bundle", "show", "--socket-path"]);
        let shown = checked(command.arg(self.server_socket()).output().unwrap());
        fs::write(&path, shown.stdout).unwrap();
        path
    }

    fn write_config(&self) -> PathBuf {
        let config = self.dir.join("server.toml");
        fs::write(&config, self.server_config()).unwrap();
        config
    }

    fn server_config(&self) -> String {
        let (port, dir, settings) = (self.port, self.dir.display(), &self.settings);
        let node_tpm = self.node_tpm.as_ref();
        let node_tpm = node_tpm.map_or(String::new(), |lines| format!("[plugins.node-tpm]\n{lines}\n"));
        let (data_dir, engine, plugins) = (self.data_dir(), self.engine, &self.plugins);
        let data_dir = data_dir.display();
        format!(
            r#"[server]
trust_domain = "example.org"
bind_address = "127.0.0.1"
bind_port = {port}
socket_path = "{dir}/server.sock"
data_dir = "{data_dir}"
log_format = "json"
log_level = "debug"
{settings}
[store]
engine = "{engine}"
[plugins.node-join-token]
{node_tpm}
{plugins}"#
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_server();
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// The user that tests run as, as the `unix` attestor shows it.
#[must_use]
pub fn uid() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap())
}

/// The SPIFFE ID of the agent that attested with `token`.
#[must_use]
pub fn agent_id(token: &str) -> String {
    format!("spiffe://example.org/spire/agent/join_token/{token}")
}
