//! Keys in this process's memory, for key managers that keep keys themselves.

use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SigningKey};
use svid::x509::PublicKey;
use zeroize::Zeroizing;

use crate::{KeyError, KeyKind, Signer};

/// A private key in memory.
pub struct SoftwareKey {
    pair: KeyPair,
    public_key: PublicKey,
}

impl SoftwareKey {
    /// Makes a key. RSA takes a moment.
    ///
    /// # Errors
    ///
    /// The cryptographic library refused.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let pair = match kind {
            KeyKind::EcP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::EcP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        };
        Self::new(pair.map_err(|_| KeyError::Crypto("generate"))?)
    }

    /// Reads a key in PKCS#8.
    ///
    /// # Errors
    ///
    /// It is no key that we sign with.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        Self::new(KeyPair::try_from(pkcs8).map_err(|_| KeyError::Crypto("read"))?)
    }

    /// The key in PKCS#8.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    fn new(pair: KeyPair) -> Result<Self, KeyError> {
        let public_key = PublicKey::from_spki(&pair.subject_public_key_info());
        Ok(Self {
            pair,
            public_key: public_key.map_err(|_| KeyError::Crypto("read"))?,
        })
    }
}

impl Signer for SoftwareKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        SigningKey::sign(&self.pair, message).map_err(|_| KeyError::Crypto("sign with"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_being_written_down() {
        for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Rsa2048] {
            let key = SoftwareKey::generate(kind).unwrap();
            let read = SoftwareKey::from_pkcs8(&key.to_pkcs8()).unwrap();
            assert_eq!(read.public_key(), key.public_key(), "{kind:?}");
            assert!(!key.sign(b"message").unwrap().is_empty());
        }
        assert!(SoftwareKey::from_pkcs8(b"no key").is_err());
    }
}
