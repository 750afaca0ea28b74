//! Signs the server's X.509 authorities with a CA that an operator keeps in files: they are intermediates then, and the
//! bundle holds the CA's roots. The files are read anew for each authority, so that they can be replaced at any time.
//!
//! Before an authority is signed, one that is thrown away signs an SVID, and that has to verify: files that relying
//! parties could do nothing with are refused here.

mod error;
mod files;
mod probe;

use std::path::PathBuf;

use plugin_api::{Certified, UpstreamAuthority, UpstreamError};
use serde::Deserialize;
use svid::{Timestamp, TrustDomain, x509::Template};

pub use error::DiskError;

/// `[plugins.upstream-disk]`; the names are those of SPIRE's plugin `disk`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM: the CA's certificate, then those between it and a root.
    pub cert_file_path: PathBuf,
    /// PEM: the CA's private key. Not for everybody to read.
    pub key_file_path: PathBuf,
    /// PEM: the roots; needed unless the CA is one itself.
    pub bundle_file_path: Option<PathBuf>,
}

/// A CA in files.
#[derive(Clone, Debug)]
pub struct DiskUpstream {
    config: Config,
    trust_domain: TrustDomain,
}

impl DiskUpstream {
    /// A CA for authorities of `trust_domain`.
    #[must_use]
    pub fn new(config: Config, trust_domain: TrustDomain) -> Self {
        Self { config, trust_domain }
    }

    /// Looks whether the files can be used now.
    ///
    /// # Errors
    ///
    /// They can't; the error says what to do.
    pub fn check(&self, now: Timestamp) -> Result<(), DiskError> {
        let ca = files::load(&self.config, &self.trust_domain, now)?;
        probe::verify(&ca, &self.trust_domain, now)
    }

    fn sign(&self, template: Template, now: Timestamp) -> Result<Certified, DiskError> {
        let ca = files::load(&self.config, &self.trust_domain, now)?;
        probe::verify(&ca, &self.trust_domain, now)?;
        let certificate = ca.sign(template)?;
        Ok(Certified {
            certificate,
            chain: ca.chain,
            roots: ca.roots,
        })
    }
}

impl UpstreamAuthority for DiskUpstream {
    fn certify(&self, template: Template, now: Timestamp) -> Result<Certified, UpstreamError> {
        self.sign(template, now)
            .map_err(|error| UpstreamError(error.into()))
    }
}

#[cfg(test)]
mod tests;
