//! The plugins of the agent.

use std::sync::Arc;

use node_join_token::JoinTokenProver;
use plugin_api::{NodeProver, WorkloadAttestor};
use serde::Deserialize;
use workload_unix::UnixAttestor;

/// `[plugins]` of the agent's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AgentPlugins {
    /// Proof by join token; a token in the configuration switches it on as well.
    pub node_join_token: Option<node_join_token::Config>,
    /// Workloads by Unix user, groups and executable; the default.
    pub workload_unix: Option<workload_unix::Config>,
}

/// The plugins can't be used as configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AgentPluginError {
    /// Nothing says how the host proves itself.
    #[error("no node attestor is configured: add [plugins.node-tpm], or set join_token")]
    NoNodeAttestor,
    /// The token is missing.
    #[error(
        "this agent attests by join token and has none: set join_token to one that `plastron-server token generate` prints"
    )]
    NoToken,
}

impl AgentPlugins {
    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    ///
    /// The plugins can't be used as configured.
    pub fn check(&self, has_token: bool) -> Result<(), AgentPluginError> {
        if self.node_join_token.is_none() && !has_token {
            return Err(AgentPluginError::NoNodeAttestor);
        }
        Ok(())
    }

    /// How the host proves itself.
    ///
    /// # Errors
    ///
    /// A token is needed and there is none.
    pub fn node_prover(&self, token: Option<String>) -> Result<Box<dyn NodeProver>, AgentPluginError> {
        let token = token.ok_or(AgentPluginError::NoToken)?;
        Ok(Box::new(JoinTokenProver::new(token)))
    }

    /// What finds selectors of workloads.
    #[must_use]
    pub fn workload_attestors(&self) -> Vec<Arc<dyn WorkloadAttestor>> {
        vec![Arc::new(UnixAttestor::new(
            self.workload_unix.unwrap_or_default(),
        ))]
    }
}
