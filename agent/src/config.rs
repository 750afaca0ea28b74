//! The agent's configuration: what the file says, and what follows from it.

use std::path::PathBuf;

use edge::{health, log, otlp};
use plugin_catalog::{AgentPluginError, AgentPlugins};
use serde::Deserialize;
use svid::TrustDomain;

use crate::sealed;

/// `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// `[plugins.NAME]`.
    #[serde(default)]
    pub plugins: AgentPlugins,
}

/// `[agent]`; names as SPIRE's where it has them.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The trust domain of server and workloads.
    pub trust_domain: TrustDomain,
    /// Name or address of the server.
    pub server_address: String,
    /// Its port.
    #[serde(default = "default_server_port")]
    pub server_port: u16,
    /// The Workload API's socket: any local process may open it.
    #[serde(default = "default_socket_path")]
    pub socket_path: PathBuf,
    /// Where the agent keeps its state.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Whether state is kept over a restart, sealed to the TPM.
    #[serde(default)]
    pub sealed_state: sealed::Mode,
    /// How much is logged.
    #[serde(default)]
    pub log_level: log::Level,
    /// The form of log lines.
    #[serde(default)]
    pub log_format: log::Format,
    /// Roots (PEM, or a JWK Set) that the server is verified with until its bundle is known.
    #[serde(default)]
    pub trust_bundle_path: Option<PathBuf>,
    /// Believe whoever answers at the first contact. Whoever sits between can then be the server.
    #[serde(default)]
    pub insecure_bootstrap: bool,
    /// A join token.
    #[serde(default)]
    pub join_token: Option<String>,
    /// A file that holds a join token.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// The health listener.
    #[serde(default)]
    pub health_checks: health::Config,
    /// The collector that metrics are pushed to.
    #[serde(default)]
    pub otlp: Option<otlp::Config>,
}

/// A configuration that reads well and can't work.
#[derive(Debug, thiserror::Error)]
pub enum Unworkable {
    /// The health listener.
    #[error(transparent)]
    Health(#[from] health::BadPaths),
    /// The collector of metrics.
    #[error(transparent)]
    Otlp(#[from] otlp::BadConfig),
    /// Two ways to trust the server.
    #[error("trust_bundle_path and insecure_bootstrap exclude each other; keep trust_bundle_path")]
    BothBootstraps,
    /// Two tokens.
    #[error("join_token and join_token_file exclude each other; keep one")]
    BothTokens,
    /// No way to trust the server.
    #[error(
        "nothing says how to trust the server at first: set trust_bundle_path to a copy of what \
         `plastron-server bundle show` prints, or insecure_bootstrap = true for a test"
    )]
    NoBootstrap,
    /// The plugins.
    #[error(transparent)]
    Plugins(#[from] AgentPluginError),
}

impl Config {
    /// Checks what a file can't show.
    ///
    /// # Errors
    ///
    /// The configuration can't work.
    pub fn check(&self) -> Result<(), Unworkable> {
        let agent = &self.agent;
        agent.health_checks.check()?;
        if let Some(otlp) = &agent.otlp {
            otlp.check()?;
        }
        match (&agent.trust_bundle_path, agent.insecure_bootstrap) {
            (Some(_), true) => return Err(Unworkable::BothBootstraps),
            (None, false) => return Err(Unworkable::NoBootstrap),
            _ => {}
        }
        if agent.join_token.is_some() && agent.join_token_file.is_some() {
            return Err(Unworkable::BothTokens);
        }
        self.plugins
            .check(agent.join_token.is_some() || agent.join_token_file.is_some())?;
        Ok(())
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("trust_domain", &self.trust_domain)
            .field("server_address", &self.server_address)
            .field("join_token", &self.join_token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/plastron/agent.toml";
/// Where the Workload API is looked for.
pub const DEFAULT_SOCKET: &str = "/run/plastron-agent/public/api.sock";

const fn default_server_port() -> u16 {
    8081
}

fn default_socket_path() -> PathBuf {
    DEFAULT_SOCKET.into()
}

fn default_data_dir() -> PathBuf {
    "/var/lib/plastron-agent".into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let text = format!("[agent]\ntrust_domain = \"td\"\nserver_address = \"s\"\n{text}");
        let config: Config = edge::config::parse(Path::new("agent.toml"), &text, &[]).unwrap();
        match (config.check(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (outcome, expected) => panic!("{outcome:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_shortest_configurations_work() {
        check("trust_bundle_path = \"b\"\njoin_token = \"t\"\n", Ok(()));
        check("insecure_bootstrap = true\n[plugins.node-join-token]\n", Ok(()));
    }

    #[test]
    fn the_annotated_configuration_works() {
        let text = include_str!("../../deploy/config/agent.toml");
        let config: Config = edge::config::parse(Path::new("agent.toml"), text, &[]).unwrap();
        config.check().unwrap();
        let tpm = config.plugins.node_tpm.unwrap();
        assert_eq!(tpm, plugin_catalog::TpmConfig::default());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        check(
            "join_token = \"t\"\n",
            Err("nothing says how to trust the server"),
        );
        check(
            "insecure_bootstrap = true\ntrust_bundle_path = \"b\"\n",
            Err("exclude each other"),
        );
        let both = "insecure_bootstrap = true\njoin_token = \"t\"\njoin_token_file = \"f\"\n";
        check(both, Err("join_token and join_token_file exclude each other"));
        check("insecure_bootstrap = true\n", Err("no node attestor"));
    }

    #[test]
    fn state_is_sealed_unless_it_is_switched_off() {
        let mode = |line: &str| {
            let text = format!("[agent]\ntrust_domain = \"td\"\nserver_address = \"s\"\n{line}");
            let parsed = edge::config::parse::<Config>(Path::new("agent.toml"), &text, &[]);
            parsed.map(|config| config.agent.sealed_state).ok()
        };
        assert_eq!(mode(""), Some(sealed::Mode::Auto));
        assert_eq!(mode("sealed_state = \"auto\""), Some(sealed::Mode::Auto));
        assert_eq!(mode("sealed_state = \"off\""), Some(sealed::Mode::Off));
        assert_eq!(mode("sealed_state = \"always\""), None);
    }

    #[test]
    fn tokens_are_not_printed() {
        let text = "[agent]\ntrust_domain = \"td\"\nserver_address = \"s\"\njoin_token = \"hush\"\n";
        let config: Config = edge::config::parse(Path::new("agent.toml"), text, &[]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
