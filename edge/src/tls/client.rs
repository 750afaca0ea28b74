//! The client's side of TLS.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::aws_lc_rs::sign::any_supported_type,
    sign::{CertifiedKey, SigningKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use svid::{Bundle, SpiffeId};

use super::{ALPN, provider, verifier::ServerVerifier};
use crate::Clock;

/// Which server a client talks to.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Whoever says that it is this server: good only for the first contact, where an operator chose so.
    Anyone(SpiffeId),
    /// The server with this ID, verified with the bundle of its trust domain.
    Verified {
        /// Its ID.
        id: SpiffeId,
        /// The bundle.
        bundle: Arc<Bundle>,
    },
}

impl Expected {
    /// The server's ID.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        match self {
            Self::Anyone(id) | Self::Verified { id, .. } => id,
        }
    }
}

/// An X509-SVID with its key, as TLS uses it.
#[derive(Clone)]
pub struct Identity(Arc<Joined>);

/// Certificate and key, and what it is like to sign with that.
struct Joined {
    certified: Arc<CertifiedKey>,
    blocks: bool,
}

/// Certificate and key are not usable together.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no key.
    #[error("private key is not usable")]
    Key(#[source] Error),
    /// The key is that of another certificate.
    #[error("private key and certificate do not belong together")]
    Mismatch(#[source] Error),
}

impl Identity {
    /// Joins a chain, leaf first, with its key in PKCS#8.
    ///
    /// # Errors
    ///
    /// The key is malformed or belongs to another certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let key = any_supported_type(&key).map_err(IdentityError::Key)?;
        Self::of(chain, key, false)
    }

    /// Joins a chain, leaf first, with a key that is elsewhere, and whose signatures block for a while.
    ///
    /// # Errors
    ///
    /// The key belongs to another certificate.
    pub fn with_key_elsewhere(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, IdentityError> {
        Self::of(chain, key, true)
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        blocks: bool,
    ) -> Result<Self, IdentityError> {
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(IdentityError::Mismatch)?;
        let certified = Arc::new(certified);
        Ok(Self(Arc::new(Joined { certified, blocks })))
    }

    /// Whether a handshake with it blocks, and is to happen where that does no harm.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.0.blocks
    }

    /// As rustls holds it.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.certified)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Settings of a client that talks to `expected`, as `identity` where there is one.
///
/// # Errors
///
/// The cryptographic provider lacks TLS 1.3.
pub fn client_config(
    expected: Expected,
    identity: Option<&Identity>,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = ServerVerifier {
        expected,
        clock,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shows(identity.certified_key()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.into()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Shows one certificate, whatever the server hints at.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
