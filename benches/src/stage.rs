//! A server and agents of our own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{calls, process::Serving};

/// A server that runs, and the folder of everything.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    port: u16,
    pub(crate) server: Serving,
}

impl Stage {
    /// Starts a server with default settings, but no limits by source.
    pub(crate) async fn set(binaries: &Path) -> Result<Self> {
        Self::with(
            binaries,
            "[server.ratelimit]\nattestation = false\nsigning = false\n",
        )
        .await
    }

    /// Starts a server with default settings.
    pub(crate) async fn with_limits(binaries: &Path) -> Result<Self> {
        Self::with(binaries, "").await
    }

    async fn with(binaries: &Path, limits: &str) -> Result<Self> {
        // Not in memory: commits are to be as dear as they are.
        let folder = tempfile::tempdir_in(".")?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?
            .local_addr()?
            .port();
        let config = format!(
            "[server]\ntrust_domain = \"example.org\"\nbind_address = \"127.0.0.1\"\nbind_port = {port}\n\
             socket_path = \"{0}/server.sock\"\ndata_dir = \"{0}/server\"\nlog_level = \"warn\"\n\
             {limits}[plugins.node-join-token]\n[plugins.node-tpm]\n",
            folder.path().display()
        );
        fs::write(folder.path().join("server.toml"), config)?;
        let server = start_server(folder.path(), binaries)?;
        let stage = Self {
            folder,
            binaries: binaries.into(),
            port,
            server,
        };
        stage.wait_for_server().await?;
        Ok(stage)
    }

    /// Kills the server, and starts it again on what it left.
    pub(crate) async fn restart_server(&mut self) -> Result<()> {
        self.restart_server_after(Duration::ZERO).await
    }

    /// The same, but the server is away for so long.
    pub(crate) async fn restart_server_after(&mut self, away: Duration) -> Result<()> {
        self.server.kill();
        tokio::time::sleep(away).await;
        self.server = start_server(self.folder.path(), &self.binaries)?;
        self.wait_for_server().await
    }

    async fn wait_for_server(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            match calls::is_healthy(&self.socket()).await {
                Ok(true) => return Ok(()),
                outcome if tokio::time::Instant::now() > deadline => {
                    outcome.context("server is not ready")?;
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("server.sock")
    }

    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts an agent with a token, and waits until it serves.
    pub(crate) async fn agent(&self, token: &str) -> Result<Serving> {
        let config = format!(
            "[agent]\ntrust_domain = \"example.org\"\nserver_address = \"127.0.0.1\"\nserver_port = {}\n\
             socket_path = \"{1}/agent.sock\"\ndata_dir = \"{1}/agent\"\ninsecure_bootstrap = true\n\
             join_token = \"{token}\"\nlog_level = \"info\"\n",
            self.port,
            self.folder.path().display()
        );
        fs::write(self.path("agent.toml"), config)?;
        let (log, config) = (self.path("agent.log"), self.path("agent.toml"));
        let words = ["run", "--config", config.to_str().context("path is no text")?];
        let agent = Serving::start(&self.binaries.join("plastron-agent"), &words, &log)?;
        agent.wait(&log, |said| said.contains("Agent ready")).await?;
        Ok(agent)
    }

    /// The agent's socket.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.path("agent.sock")
    }
}

fn start_server(folder: &Path, binaries: &Path) -> Result<Serving> {
    let config = folder.join("server.toml");
    let words = ["run", "--config", config.to_str().context("path is no text")?];
    Serving::start(
        &binaries.join("plastron-server"),
        &words,
        &folder.join("server.log"),
    )
}
