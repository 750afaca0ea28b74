//! TLS 1.3 between SPIFFE identities: no older version, no tickets, no resumption, no early data. A session
//! that is resumed skips verification; ours never is.

mod client;
mod server;
mod verifier;

use std::{io, sync::Arc};

use rustls::{
    CipherSuite, ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    version::TLS13,
};
use svid::{Bundle, TrustDomain};

pub use client::{Expected, Identity, IdentityError, client_config};
pub use server::{Certificate, server_config};

/// Finds the bundle of a trust domain. Called for each handshake.
pub type BundleSource = Arc<dyn Fn(&TrustDomain) -> Option<Arc<Bundle>> + Send + Sync>;

/// Keying material of one connection: both ends have the same, nobody else (RFC 8446 §7.5).
pub type Exporter = [u8; 32];

const EXPORTER_LABEL: &[u8] = b"EXPORTER-plastron-attest-v1";
const ALPN: &[u8] = b"h2";

/// Derives the exporter of an established connection.
///
/// # Errors
///
/// The handshake is not over.
pub fn exporter<Data>(connection: &rustls::ConnectionCommon<Data>) -> Result<Exporter, rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

/// What a client of the web goes by: servers have names, and certificates that lead to `roots`.
///
/// # Errors
///
/// TLS can't be set up.
pub fn web_client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The error of a handshake, in our words where it was our verification that refused the other end: rustls shows
/// the insides of the value.
#[must_use]
pub fn in_our_words(error: io::Error) -> io::Error {
    match verifier::refusal(&error) {
        Some(refused) => io::Error::other(refused),
        None => error,
    }
}

/// What is taken for both sides: the library's own choice, but AES-128 with SHA-256 first. SHA-384 makes the key schedule,
/// which is most of a short connection's hashing, several times as dear, and no certificate of ours is stronger than P-256
/// unless asked for.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let preferred = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != preferred);
    Arc::new(provider)
}
