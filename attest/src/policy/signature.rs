//! Signed policies: a detached signature over the canonical form, so that comments may be changed.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::Policy;

/// A key that signs policies: Ed25519, or ECDSA on P-256 with SHA-256.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyKey {
    kind: Kind,
    bits: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Ed25519,
    P256,
}

/// A policy that a key signed. Only [`PolicyKey::verify`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedPolicy(Policy);

/// A policy is not signed as it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// The key can't be used.
    #[error("a key for policies is a DER SubjectPublicKeyInfo, Ed25519 or P-256")]
    Key,
    /// The signature is of another key, or over something else.
    #[error("signature is not this key's over the policy's canonical form")]
    Signature,
}

/// id-Ed25519 (RFC 8410 §3).
const OID_ED25519: &str = "1.3.101.112";

impl PolicyKey {
    /// From DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Key`] if it is none of the two kinds.
    pub fn parse(der: &[u8]) -> Result<Self, SignatureError> {
        let (rest, key) = SubjectPublicKeyInfo::from_der(der).map_err(|_| SignatureError::Key)?;
        let bits: &[u8] = &key.subject_public_key.data;
        let kind = match key.parsed() {
            Ok(PublicKey::EC(_)) if bits.len() == 65 => Kind::P256,
            _ if key.algorithm.algorithm.to_id_string() == OID_ED25519 => Kind::Ed25519,
            _ => return Err(SignatureError::Key),
        };
        if rest.is_empty() {
            Ok(Self {
                kind,
                bits: bits.into(),
            })
        } else {
            Err(SignatureError::Key)
        }
    }

    /// Verifies that it signed `policy`: `signature` is over [`Policy::canonical`], of ECDSA in DER.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Signature`] if it did not.
    pub fn verify(&self, policy: Policy, signature: &[u8]) -> Result<SignedPolicy, SignatureError> {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::Ed25519 => &ED25519,
            Kind::P256 => &ECDSA_P256_SHA256_ASN1,
        };
        UnparsedPublicKey::new(algorithm, &self.bits)
            .verify(policy.canonical().as_bytes(), signature)
            .map_err(|_| SignatureError::Signature)?;
        Ok(SignedPolicy(policy))
    }
}

impl SignedPolicy {
    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.0
    }
}
