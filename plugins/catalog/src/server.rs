//! The plugins of the server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keys_disk::DiskKeys;
use keys_memory::MemoryKeys;
use node_join_token::JoinTokenAttestor;
use node_tpm::TpmAttestor;
use plugin_api::{KeyError, KeyManager, NodeAttestor, UpstreamAuthority};
use serde::Deserialize;
use svid::{Timestamp, TrustDomain};
use upstream_disk::DiskUpstream;

/// `[plugins]` of the server's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ServerPlugins {
    /// Keys in a file; the default.
    pub keys_disk: Option<keys_disk::Config>,
    /// Keys in memory.
    pub keys_memory: Option<keys_memory::Config>,
    /// Attestation by join token.
    pub node_join_token: Option<node_join_token::Config>,
    /// Attestation by TPM.
    pub node_tpm: Option<node_tpm::Config>,
    /// A CA in files that signs the server's authorities.
    pub upstream_disk: Option<upstream_disk::Config>,
}

/// The plugins can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ServerPluginError {
    /// The keys can't be opened.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Attestation by TPM can't be used.
    #[error(transparent)]
    NodeTpm(#[from] node_tpm::TrustError),
    /// Nothing says how agents attest.
    #[error("no node attestor is configured: add [plugins.node-tpm] or [plugins.node-join-token]")]
    NoNodeAttestor,
    /// Two plugins want to keep the keys.
    #[error("[plugins.keys-disk] and [plugins.keys-memory] exclude each other; keep one")]
    TwoKeyManagers,
    /// The CA above the server's authorities can't be used.
    #[error("[plugins.upstream-disk] can't be used")]
    UpstreamDisk(#[from] upstream_disk::DiskError),
}

impl ServerPlugins {
    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    ///
    /// The plugins can't be used as configured.
    pub fn check(&self) -> Result<(), ServerPluginError> {
        if self.keys_disk.is_some() && self.keys_memory.is_some() {
            return Err(ServerPluginError::TwoKeyManagers);
        }
        if self.node_attestors()?.is_empty() {
            return Err(ServerPluginError::NoNodeAttestor);
        }
        Ok(())
    }

    /// Opens the key manager.
    ///
    /// # Errors
    ///
    /// The keys can't be opened.
    pub fn key_manager(&self, data_dir: &Path) -> Result<Arc<dyn KeyManager>, ServerPluginError> {
        match self.keys_path(data_dir) {
            Some(path) => Ok(Arc::new(DiskKeys::open(path)?)),
            None => Ok(Arc::new(MemoryKeys::default())),
        }
    }

    /// The file that keeps the keys, if one does.
    #[must_use]
    pub fn keys_path(&self, data_dir: &Path) -> Option<PathBuf> {
        if self.keys_memory.is_some() {
            return None;
        }
        let configured = self
            .keys_disk
            .as_ref()
            .and_then(|config| config.keys_path.clone());
        Some(configured.unwrap_or_else(|| data_dir.join("keys.json")))
    }

    /// Who signs the server's authorities, where they are no roots. Looks whether it can.
    ///
    /// # Errors
    ///
    /// It can't, now.
    pub fn upstream_authority(
        &self,
        trust_domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Option<Arc<dyn UpstreamAuthority>>, ServerPluginError> {
        let Some(config) = &self.upstream_disk else {
            return Ok(None);
        };
        let upstream = DiskUpstream::new(config.clone(), trust_domain.clone());
        upstream.check(now)?;
        Ok(Some(Arc::new(upstream)))
    }

    /// The node attestors that are switched on.
    ///
    /// # Errors
    ///
    /// One can't be used as configured.
    pub fn node_attestors(&self) -> Result<Vec<Arc<dyn NodeAttestor>>, ServerPluginError> {
        let mut attestors: Vec<Arc<dyn NodeAttestor>> = Vec::new();
        if self.node_join_token.is_some() {
            attestors.push(Arc::new(JoinTokenAttestor));
        }
        if let Some(config) = &self.node_tpm {
            attestors.push(Arc::new(TpmAttestor::new(config)?));
        }
        Ok(attestors)
    }
}
