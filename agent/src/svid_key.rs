//! Keys that SVIDs are made for: generated here, never sent anywhere.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use svid::SpiffeId;
use zeroize::Zeroizing;

/// A fresh key (EC P-256), and a request to certify it.
pub struct KeyRequest {
    /// The request: PKCS#10 in DER.
    pub csr: Vec<u8>,
    /// The key: PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
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
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self {
            csr,
            key: Zeroizing::new(key.serialize_der()),
        })
    }
}
