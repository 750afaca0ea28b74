//! Verification of the other end, as rustls wants it.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use svid::x509::{Refused, VerifiedSvid, X509Svid};

use super::{BundleSource, Expected};
use crate::Clock;

/// Accepts clients without a certificate, and those whose X509-SVID verifies.
#[derive(Clone)]
pub(super) struct ClientVerifier {
    pub(super) bundles: BundleSource,
    pub(super) clock: Clock,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Accepts one server.
#[derive(Clone)]
pub(super) struct ServerVerifier {
    pub(super) expected: Expected,
    pub(super) clock: Clock,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<VerifiedSvid, Refused> {
        svid::x509::verify(
            chain,
            |trust_domain| (self.bundles)(trust_domain),
            self.clock.now(),
        )
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(&chain(leaf, intermediates)).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerVerifier {
    fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let id = match &self.expected {
            Expected::Anyone(_) => {
                let leaf = chain.first().ok_or(Error::NoCertificatesPresented)?;
                X509Svid::parse(leaf).map_err(|error| refused(error.into()))?.id
            }
            Expected::Verified { bundle, .. } => {
                let verified = svid::x509::verify(chain, |_| Some(Arc::clone(bundle)), self.clock.now());
                verified.map_err(refused)?.svid().id.clone()
            }
        };
        if id == *self.expected.id() {
            Ok(())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(&chain(leaf, intermediates))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn chain<'a>(
    leaf: &'a CertificateDer<'_>,
    intermediates: &'a [CertificateDer<'_>],
) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf)
        .chain(intermediates)
        .map(|certificate| CertificateDer::from(certificate.as_ref()))
        .collect()
}

fn refused(refused: Refused) -> Error {
    CertificateError::Other(OtherError(Arc::new(refused))).into()
}

/// Why verification here refused the other end, if that is what `error` is about.
pub(super) fn refusal(error: &io::Error) -> Option<Refused> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.downcast_ref().cloned(),
        _ => None,
    }
}

impl std::fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientVerifier").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("expected", self.expected.id())
            .finish_non_exhaustive()
    }
}
