//! Who signs the server's X.509 authorities, where they are no roots themselves.

use std::error::Error;

use rustls_pki_types::CertificateDer;
use svid::{Timestamp, x509::Template};

/// Signs the server's X.509 authorities. Calls may block.
pub trait UpstreamAuthority: Send + Sync {
    /// Has the authority signed that `template` describes. It may end before the template says: nothing outlives what
    /// signed it.
    ///
    /// # Errors
    ///
    /// It is not signed; the error says what to do.
    fn certify(&self, template: Template, now: Timestamp) -> Result<Certified, UpstreamError>;
}

/// An authority that somebody else signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certified {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// The certificates between it and a root, lowest first; none if a root signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// What those who verify are to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

/// An authority is not signed.
#[derive(Debug, thiserror::Error)]
#[error("upstream authority can't be used")]
pub struct UpstreamError(#[from] pub Box<dyn Error + Send + Sync>);
