//! Keys that SVIDs are made for: generated here and never sent anywhere, or made in the host, where nobody can take them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use edge::tls::{Identity, IdentityError};
use plugin_api::{HostKey, NodeProver, ProverError, TpmError};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SanType};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey},
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use svid::SpiffeId;
use tracing::warn;
use zeroize::Zeroizing;

/// The prover, which also signs with the keys that the host keeps.
pub(crate) type SharedProver = Arc<Mutex<Box<dyn NodeProver>>>;

/// A fresh key (EC P-256), and a request to certify it.
pub struct KeyRequest {
    /// The request: PKCS#10 in DER.
    pub csr: Vec<u8>,
    /// The key: PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
}

/// The same, of a key of the agent's own SVID, wherever that is.
pub struct AgentKeyRequest {
    /// The request: PKCS#10 in DER.
    pub csr: Vec<u8>,
    /// The key.
    pub key: AgentKey,
}

/// The key of the agent's own SVID.
#[derive(Clone)]
pub enum AgentKey {
    /// The host keeps it.
    InHost(Arc<KeyInHost>),
    /// In memory: PKCS#8.
    InMemory(Zeroizing<Vec<u8>>),
}

/// A key that the host keeps. Its signatures block for as long as the TPM takes.
pub struct KeyInHost {
    prover: SharedProver,
    key: HostKey,
    /// The TPM takes it no more, and never will.
    is_lost: AtomicBool,
}

/// A key can't be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a key")]
pub struct KeyRequestError(#[from] rcgen::Error);

impl KeyRequest {
    /// Makes a key for `id`; for an agent that has none yet, `None`.
    ///
    /// # Errors
    ///
    /// The cryptographic library refused.
    pub fn generate(id: Option<&SpiffeId>) -> Result<Self, KeyRequestError> {
        let key = KeyPair::generate()?;
        Ok(Self {
            csr: request(&key, id)?,
            key: Zeroizing::new(key.serialize_der()),
        })
    }
}

impl AgentKeyRequest {
    /// With a key in memory.
    ///
    /// # Errors
    ///
    /// The cryptographic library refused.
    pub fn in_memory() -> Result<Self, KeyRequestError> {
        let KeyRequest { csr, key } = KeyRequest::generate(None)?;
        Ok(Self {
            csr,
            key: AgentKey::InMemory(key),
        })
    }

    /// With a key that the host keeps, which signs the request.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn in_host(key: KeyInHost) -> Result<Self, KeyRequestError> {
        Ok(Self {
            csr: request(&key, None)?,
            key: AgentKey::InHost(Arc::new(key)),
        })
    }
}

fn request(key: &impl rcgen::SigningKey, id: Option<&SpiffeId>) -> Result<Vec<u8>, KeyRequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Plastron");
    if let Some(id) = id {
        params
            .subject_alt_names
            .push(SanType::URI(id.to_string().try_into()?));
    }
    Ok(params.serialize_request(key)?.der().to_vec())
}

impl AgentKey {
    /// Joins a chain, leaf first, with the key.
    ///
    /// # Errors
    ///
    /// The key belongs to another certificate.
    pub fn identity(&self, chain: Vec<CertificateDer<'static>>) -> Result<Identity, IdentityError> {
        match self {
            Self::InHost(key) => {
                let key = TlsKey(Arc::clone(key));
                Identity::with_key_elsewhere(chain, Arc::new(key))
            }
            Self::InMemory(key) => Identity::new(chain, key),
        }
    }

    /// The key, if the host keeps it.
    #[must_use]
    pub fn in_host(&self) -> Option<Arc<KeyInHost>> {
        match self {
            Self::InHost(key) => Some(Arc::clone(key)),
            Self::InMemory(_) => None,
        }
    }
}

impl KeyInHost {
    /// A key that the host of `prover` keeps.
    pub(crate) const fn new(prover: SharedProver, key: HostKey) -> Self {
        Self {
            prover,
            key,
            is_lost: AtomicBool::new(false),
        }
    }

    /// Whether it signs no more: the TPM was reset or cleared. One that is busy or away for a while takes it again.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Signs, or says why not: TLS and X.509 have no place for the reason.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut prover = self.prover.lock().unwrap_or_else(PoisonError::into_inner);
        match prover.sign(&self.key, message) {
            Ok(signature) => Some(signature),
            Err(error) => {
                if matches!(error, ProverError::Tpm(TpmError::KeyGone(_))) {
                    self.is_lost.store(true, Ordering::Relaxed);
                }
                warn!(error = %edge::Chain(&error), "Key of the agent's SVID did not sign");
                None
            }
        }
    }
}

impl PublicKeyData for KeyInHost {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_key.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key.public_key.algorithm()
    }
}

impl rcgen::SigningKey for KeyInHost {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).ok_or(rcgen::Error::RemoteKeyError)
    }
}

/// The key as TLS uses it.
#[derive(Clone)]
struct TlsKey(Arc<KeyInHost>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SCHEME)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.0.key.public_key.to_spki().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let refused = || rustls::Error::General("key of the SVID, which the TPM keeps, did not sign".into());
        self.0.sign(message).ok_or_else(refused)
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(…)")
    }
}

/// What hosts keep are keys of P-256.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

#[cfg(test)]
mod tests {
    use plugin_api::{Binding, TpmKey};
    use svid::x509::{CertificateRequest, PublicKey};

    use super::*;

    /// A host that keeps a key, or fails by an error.
    struct Keeps(Result<KeyPair, fn() -> TpmError>);

    impl NodeProver for Keeps {
        fn name(&self) -> &'static str {
            "test"
        }

        fn prepare(&mut self) -> Result<(), ProverError> {
            Ok(())
        }

        fn sign(&mut self, _key: &HostKey, message: &[u8]) -> Result<Vec<u8>, ProverError> {
            let pair = self.0.as_ref().map_err(|fails| fails())?;
            Ok(rcgen::SigningKey::sign(pair, message).unwrap())
        }

        fn begin(&mut self, _binding: &Binding) -> Result<Vec<u8>, ProverError> {
            Ok(Vec::new())
        }

        fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, ProverError> {
            Ok(Vec::new())
        }
    }

    fn gone() -> TpmError {
        TpmError::KeyGone("TPM was reset".into())
    }

    fn kept() -> KeyInHost {
        key_of(None)
    }

    fn key_of(fails: Option<fn() -> TpmError>) -> KeyInHost {
        let pair = KeyPair::generate().unwrap();
        let public_key = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        let tpm_key = TpmKey {
            public: Vec::new(),
            context: Vec::new(),
        };
        let prover = Keeps(fails.map_or(Ok(pair), Err));
        KeyInHost::new(
            Arc::new(Mutex::new(Box::new(prover))),
            HostKey { public_key, tpm_key },
        )
    }

    #[test]
    fn a_key_that_the_host_keeps_signs_the_request_and_shows_its_own_svid_alone() {
        let key = kept();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let public_key = key.key.public_key.clone();
        let request = AgentKeyRequest::in_host(key).unwrap();
        let verified = CertificateRequest::verify(&request.csr).unwrap();
        assert_eq!(verified.public_key, public_key);

        let identity = request.key.identity(vec![certificate.der().clone()]).unwrap();
        assert!(identity.blocks());
        let other = CertificateParams::default().self_signed(&kept()).unwrap();
        let refused = request.key.identity(vec![other.der().clone()]);
        assert!(matches!(refused, Err(IdentityError::Mismatch(_))));
    }

    #[test]
    fn a_key_that_the_tpm_takes_no_more_is_lost() {
        let key = Arc::new(key_of(Some(gone)));
        let tls = TlsKey(Arc::clone(&key));
        assert!(tls.choose_scheme(&[SignatureScheme::ED25519]).is_none());
        let signer = tls.choose_scheme(&[SignatureScheme::ED25519, SCHEME]).unwrap();
        assert!(!key.is_lost());
        assert!(signer.sign(b"handshake").is_err());
        assert!(key.is_lost());
        assert!(AgentKeyRequest::in_host(key_of(Some(gone))).is_err());
        for passing in [|| TpmError::NoMemory, || TpmError::Stopped] {
            let key = Arc::new(key_of(Some(passing)));
            assert!(TlsKey(Arc::clone(&key)).sign(b"handshake").is_err());
            assert!(!key.is_lost(), "it signs again");
        }
    }
}
