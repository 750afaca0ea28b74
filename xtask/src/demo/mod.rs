//! The main job, end to end, on this machine: a host proves itself, a program on it gets its SVID, two programs
//! authenticate each other with theirs.

mod narrate;
mod process;
mod tls;

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use self::{
    narrate::Story,
    process::{Running, output, until},
};
use crate::{
    packages,
    run::{cargo, root, run},
};

const TRUST_DOMAIN: &str = "example.org";

/// `cargo xtask demo`.
///
/// # Errors
///
/// A step failed; the error says which, and what its programs printed last.
pub(crate) fn demo() -> Result<()> {
    let mut story = Story::default();
    story.step("Packages: build tools, libtss2, openssl", || {
        packages::ensure(&[packages::BUILD, &["openssl"]].concat())
    })?;
    story.step("Build: plastron-server, plastron-agent", || {
        run(&mut cargo(&[
            "build", "--locked", "--quiet", "-p", "server", "-p", "agent",
        ]))
    })?;
    let stage = Stage::set()?;
    let server = story.step("Server: starts, makes its keys and its first authority", || {
        stage.server()
    })?;
    let token = story.step("Operator: generates a join token for this host", || stage.token())?;
    let agent = story.step(
        "Agent: attests the host with the token, opens its session",
        || stage.agent(&token),
    )?;
    story.step("Operator: registers an entry for your user", || stage.entry())?;
    let shown = story.step("Program: fetches its SVID over the Workload API", || {
        stage.fetch()
    })?;
    story.show(&shown);
    let greeted = story.step("Two programs: mutual TLS, each with its SVID", || {
        tls::greet(&stage.folder())
    })?;
    story.show(&greeted);
    story.step("Clean up", || {
        drop((agent, server));
        stage.clear()
    })?;
    story.end();
    Ok(())
}

/// Where the demonstration keeps its files.
struct Stage {
    folder: tempfile::TempDir,
    port: u16,
}

impl Stage {
    fn set() -> Result<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        Ok(Self {
            folder: tempfile::Builder::new().prefix("plastron-demo-").tempdir()?,
            port: free.local_addr()?.port(),
        })
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().into()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn clear(self) -> Result<()> {
        Ok(self.folder.close()?)
    }

    fn server(&self) -> Result<Running> {
        let config = format!(
            "[server]\ntrust_domain = \"{TRUST_DOMAIN}\"\nbind_address = \"127.0.0.1\"\nbind_port = {}\n\
             socket_path = \"{}\"\ndata_dir = \"{}\"\n\n[plugins.node-join-token]\n",
            self.port,
            self.path("server.sock"),
            self.path("server"),
        );
        fs::write(self.path("server.toml"), config)?;
        let server = Running::start(
            "plastron-server",
            &["run", "--config", &self.path("server.toml")],
            &self.path("server.log"),
        )?;
        until(&server, || output(&mut self.operator(&["healthcheck"])).is_ok())?;
        Ok(server)
    }

    fn operator(&self, words: &[&str]) -> Command {
        let mut command = program("plastron-server");
        command
            .args(words)
            .args(["--socket-path", &self.path("server.sock")]);
        command
    }

    fn token(&self) -> Result<String> {
        let printed = output(&mut self.operator(&["token", "generate", "--spiffe-id", &id("/host")]))?;
        Ok(printed.trim().trim_start_matches("Token: ").to_owned())
    }

    fn agent(&self, token: &str) -> Result<Running> {
        fs::write(
            self.path("bundle.pem"),
            output(&mut self.operator(&["bundle", "show"]))?,
        )?;
        let config = format!(
            "[agent]\ntrust_domain = \"{TRUST_DOMAIN}\"\nserver_address = \"127.0.0.1\"\nserver_port = {}\n\
             socket_path = \"{}\"\ndata_dir = \"{}\"\ntrust_bundle_path = \"{}\"\njoin_token = \"{token}\"\n",
            self.port,
            self.path("agent.sock"),
            self.path("agent"),
            self.path("bundle.pem"),
        );
        fs::write(self.path("agent.toml"), config)?;
        let agent = Running::start(
            "plastron-agent",
            &["run", "--config", &self.path("agent.toml")],
            &self.path("agent.log"),
        )?;
        until(&agent, || output(&mut self.workload(&["healthcheck"])).is_ok())?;
        Ok(agent)
    }

    fn workload(&self, words: &[&str]) -> Command {
        let mut command = program("plastron-agent");
        command
            .args(words)
            .args(["--socket-path", &self.path("agent.sock")]);
        command
    }

    fn entry(&self) -> Result<()> {
        let user = output(Command::new("id").arg("-u"))?;
        let selector = format!("unix:uid:{}", user.trim());
        let create = [
            "entry",
            "create",
            "--parent-id",
            &id("/host"),
            "--spiffe-id",
            &id("/hello"),
            "--selector",
            &selector,
        ];
        output(&mut self.operator(&create)).map(drop)
    }

    fn fetch(&self) -> Result<String> {
        let folder = self.path("");
        output(&mut self.workload(&["api", "fetch", "x509", "--write", &folder]))
    }
}

fn id(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}{path}")
}

/// One of our programs, as it was just built.
fn program(name: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Command::new(target.join("debug").join(name))
}
