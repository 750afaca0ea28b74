//! Where the demonstration plays: a server, a host, and what an operator types.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use swtpm_tests::{Machine, work_in, write_ca_certificates};

use super::{
    process::{Running, output, until},
    program,
    sweeper::Sweeper,
};

const TRUST_DOMAIN: &str = "example.org";
/// How often the host shows anew what it is; a minute by default.
const EVIDENCE_INTERVAL: &str = "2s";
/// How long a change may take to reach a program.
const PUSHED_WITHIN: Duration = Duration::from_secs(30);

/// Where the demonstration keeps its files.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    port: u16,
    // Last: it finds nothing to do, unless this program is ended before its time.
    sweeper: Sweeper,
}

impl Stage {
    /// A new folder, in which the software TPMs keep their files, too.
    pub(super) fn set() -> Result<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        let folder = tempfile::Builder::new().prefix("plastron-demo-").tempdir()?;
        let stage = Self {
            port: free.local_addr()?.port(),
            sweeper: Sweeper::of(folder.path())?,
            folder,
        };
        for part in [stage.host(), stage.program(), stage.path("tpms")] {
            fs::create_dir(part)?;
        }
        work_in(&stage.path("tpms"));
        Ok(stage)
    }

    /// Removes everything.
    pub(super) fn clear(self) -> Result<()> {
        self.folder.close()?;
        self.sweeper.dismiss()
    }

    /// A file or folder of it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the agent has on its disk: its configuration, and its data directory.
    pub(super) fn host(&self) -> PathBuf {
        self.path("host")
    }

    /// Where the program writes its SVID.
    pub(super) fn program(&self) -> PathBuf {
        self.path("program")
    }

    /// Where the server listens for agents.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn start_server(&self) -> Result<Running> {
        write_ca_certificates(&self.path("ek-roots"));
        let config = self.path("server.toml");
        fs::write(&config, self.server_config())?;
        let run = &mut program("plastron-server");
        let mut server = Running::spawn(
            run.arg("run").arg("--config").arg(config),
            &self.path("server.log"),
        )?;
        until(&mut server, |_| {
            output(&mut self.operator(&["healthcheck"])).is_ok()
        })?;
        Ok(server)
    }

    fn server_config(&self) -> String {
        let (port, folder) = (self.port, self.folder.path().display());
        format!(
            r#"[server]
trust_domain = "{TRUST_DOMAIN}"
bind_address = "127.0.0.1"
bind_port = {port}
socket_path = "{folder}/server.sock"
data_dir = "{folder}/server"
evidence_interval = "{EVIDENCE_INTERVAL}"

[plugins.node-tpm]
ek_roots = "{folder}/ek-roots"
"#
        )
    }

    /// `plastron-server` with `words`, as an operator types it.
    pub(super) fn operator(&self, words: &[&str]) -> Command {
        let mut command = program("plastron-server");
        command
            .args(words)
            .arg("--socket-path")
            .arg(self.path("server.sock"));
        command
    }

    /// Puts the agent's configuration on the host, and tells the server of the host's endorsement keys.
    pub(super) fn enrol(&self, machine: &Machine) -> Result<String> {
        let bundle = output(&mut self.operator(&["bundle", "show"]))?;
        fs::write(self.host().join("bundle.pem"), bundle)?;
        let config = self.host().join("agent.toml");
        fs::write(&config, self.agent_config(machine))?;
        let mut keys = program("plastron-agent");
        keys.args(["tpm", "ek", "--output", "json", "--config"])
            .arg(config);
        let file = self.path("host.json");
        fs::write(&file, output(&mut keys)?)?;
        let mut import = self.operator(&["host", "import", "--file", "-"]);
        output(import.stdin(Stdio::from(fs::File::open(file)?)))
    }

    fn agent_config(&self, machine: &Machine) -> String {
        let (port, host, tpm) = (self.port, self.host(), machine.settings());
        let host = host.display();
        format!(
            r#"[agent]
trust_domain = "{TRUST_DOMAIN}"
server_address = "127.0.0.1"
server_port = {port}
socket_path = "{host}/agent.sock"
data_dir = "{host}/data"
trust_bundle_path = "{host}/bundle.pem"

{tpm}"#
        )
    }

    pub(super) fn start_agent(&self) -> Result<Running> {
        let run = &mut program("plastron-agent");
        let run = run.arg("run").arg("--config").arg(self.host().join("agent.toml"));
        let mut agent = Running::spawn(run, &self.path("agent.log"))?;
        let socket = self.host().join("agent.sock");
        until(&mut agent, |_| {
            output(&mut workload(&socket, &["healthcheck"])).is_ok()
        })?;
        Ok(agent)
    }

    /// Registers whatever this user runs on the host.
    pub(super) fn entry(&self, path: &str) -> Result<()> {
        let agent = self.agent_id()?;
        let user = output(Command::new("id").arg("-u"))?;
        let selector = format!("unix:uid:{}", user.trim());
        let mut create = self.operator(&["entry", "create", "--parent-id", &agent]);
        output(create.args(["--spiffe-id", &id(path), "--selector", &selector])).map(drop)
    }

    /// Who the server says the host is.
    fn agent_id(&self) -> Result<String> {
        let listed = output(&mut self.operator(&["agent", "list", "--output", "json"]))?;
        let listed: Value = serde_json::from_str(&listed).context("`agent list` prints no JSON")?;
        let path = listed.pointer("/agents/0/id/path").and_then(Value::as_str);
        path.map(id)
            .with_context(|| format!("the server knows no agent: {listed}"))
    }

    /// Fetches the program's SVIDs until the one named `path` is among them, and answers with them.
    pub(super) fn fetch(&self, path: &str) -> Result<String> {
        let (socket, folder) = (self.host().join("agent.sock"), self.program());
        let begun = Instant::now();
        loop {
            let mut fetch = workload(&socket, &["api", "fetch", "x509"]);
            let fetched = output(fetch.arg("--write").arg(&folder));
            match fetched {
                Ok(fetched) if fetched.contains(&id(path)) => return Ok(fetched),
                outcome if begun.elapsed() > PUSHED_WITHIN => {
                    bail!("{} does not arrive: {outcome:?}", id(path))
                }
                _ => sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Stage {
    /// Follows what the Workload API gives to a program, in a file.
    pub(super) fn watch(&self) -> Result<Running> {
        let mut watch = workload(&self.host().join("agent.sock"), &["api", "watch"]);
        Running::spawn(&mut watch, &self.path("watch.log"))
    }

    /// What the server says of its one host.
    pub(super) fn host_row(&self) -> Result<Value> {
        let listed = output(&mut self.operator(&["host", "list", "--enrolled", "--output", "json"]))?;
        let listed: Value = serde_json::from_str(&listed).context("`host list` prints no JSON")?;
        let row = listed.pointer("/hosts/0").cloned();
        row.with_context(|| format!("the server knows no host: {listed}"))
    }
}

/// `plastron-agent` with `words`, as a program on the host whose agent has this socket.
pub(super) fn workload(socket: &Path, words: &[&str]) -> Command {
    let mut command = program("plastron-agent");
    command.args(words).arg("--socket-path").arg(socket);
    command
}

fn id(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}{path}")
}
