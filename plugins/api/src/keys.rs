//! Keys that the server signs with.

use std::{collections::BTreeMap, sync::Arc};

use svid::x509::PublicKey;

/// Keeps private keys by name. Calls may block.
pub trait KeyManager: Send + Sync {
    /// Makes a key under `id`, replacing the one that is there, and keeps it before it returns.
    ///
    /// # Errors
    ///
    /// It can't be made or kept.
    fn generate(&self, id: &str, kind: KeyKind) -> Result<Arc<dyn Signer>, KeyError>;

    /// Every key that is kept, by name.
    ///
    /// # Errors
    ///
    /// They can't be read.
    fn keys(&self) -> Result<BTreeMap<String, Arc<dyn Signer>>, KeyError>;

    /// Forgets a key.
    ///
    /// # Errors
    ///
    /// It can't be removed.
    fn remove(&self, id: &str) -> Result<(), KeyError>;
}

/// A key that signs. The key itself may be out of reach.
pub trait Signer: Send + Sync {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` as X.509 does with a key of its kind: ECDSA in DER, or RSASSA-PKCS1-v1_5.
    ///
    /// # Errors
    ///
    /// The key can't be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// Kinds of key that a server can sign with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA over P-256 with SHA-256.
    EcP256,
    /// ECDSA over P-384 with SHA-384.
    EcP384,
    /// RSA of 2048 bits with SHA-256.
    Rsa2048,
    /// RSA of 4096 bits with SHA-256.
    Rsa4096,
}

/// A key can't be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What is kept is no key, or not of this format.
    #[error("key file `{path}` is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file can't be read or written.
    #[error("cannot access key file `{path}`")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The cryptographic library refused.
    #[error("cannot {0} key")]
    Crypto(&'static str),
    /// Others may read the file.
    #[error("key file `{path}` may be read by others (mode {mode:o}); run `chmod 0600` on it")]
    Permissions {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
}
