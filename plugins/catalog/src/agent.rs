//! The plugins of the agent.

use std::sync::Arc;

use node_join_token::JoinTokenProver;
use node_tpm::{OpenTpm, TpmProver};
use plugin_api::{NodeProver, WorkloadAttestor};
use serde::Deserialize;
use svid::TrustDomain;
use workload_unix::UnixAttestor;

/// `[plugins]` of the agent's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AgentPlugins {
    /// Proof by join token; a token in the configuration switches it on as well.
    pub node_join_token: Option<node_join_token::Config>,
    /// Proof by TPM.
    pub node_tpm: Option<node_tpm::AgentConfig>,
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
    /// Two ways to prove the host.
    #[error("[plugins.node-tpm] and a join token exclude each other; keep one")]
    TwoNodeAttestors,
}

impl AgentPlugins {
    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    ///
    /// The plugins can't be used as configured.
    pub fn check(&self, has_token: bool) -> Result<(), AgentPluginError> {
        match (&self.node_tpm, self.node_join_token.is_some() || has_token) {
            (None, false) => Err(AgentPluginError::NoNodeAttestor),
            (Some(_), true) => Err(AgentPluginError::TwoNodeAttestors),
            _ => Ok(()),
        }
    }

    /// How the host proves itself in `trust_domain`: by the TPM that `open` opens, or by a token.
    ///
    /// # Errors
    ///
    /// A token is needed and there is none.
    pub fn node_prover(
        &self,
        trust_domain: &TrustDomain,
        token: Option<String>,
        open: impl FnOnce(&node_tpm::AgentConfig) -> OpenTpm,
    ) -> Result<Box<dyn NodeProver>, AgentPluginError> {
        if let Some(config) = &self.node_tpm {
            let prover = TpmProver::new(config.clone(), trust_domain.clone(), open(config));
            return Ok(Box::new(prover));
        }
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
