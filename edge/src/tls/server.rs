//! The server's side of TLS.

use std::sync::Arc;

use rustls::{
    Error, ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::sync::watch;

use super::{ALPN, BundleSource, provider, verifier::ClientVerifier};
use crate::Clock;

/// The certificate that a server shows; whoever renews it sends a new one. Without one, handshakes fail.
pub type Certificate = watch::Receiver<Option<Arc<CertifiedKey>>>;

/// Settings of a server that shows `certificate`, and that accepts clients without a certificate and those
/// whose X509-SVID verifies against `bundles`.
///
/// # Errors
///
/// The cryptographic provider lacks TLS 1.3.
pub fn server_config(
    certificate: Certificate,
    bundles: BundleSource,
    clock: Clock,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let verifier = ClientVerifier {
        bundles,
        clock,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Resolver(certificate)));
    config.alpn_protocols = vec![ALPN.into()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Resolver(Certificate);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}
