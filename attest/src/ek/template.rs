//! The templates of the EK Credential Profile (v2.6 §B.3, §B.4): a key that is made by another one is no
//! endorsement key, but might be an ordinary key that decrypts what it is given.

use crate::{
    HashAlg, Reject, strength,
    wire::{Curve, EccKey, Public, PublicKey, Scheme, Symmetric},
};

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const LOW_ATTRIBUTES: u32 = 0x0003_00B2;
/// These and userWithAuth.
const HIGH_ATTRIBUTES: u32 = 0x0003_00F2;

/// PolicyA: the endorsement hierarchy's password.
const POLICY_A_SHA256: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
/// PolicyB: that, or a policy in NV memory.
const POLICY_B_SHA256: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
const POLICY_B_SHA384: &str =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";
const POLICY_B_SHA512: &str = "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a429c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea";

/// Checks that a public area is one of the templates, and its key a sound one (9, 10, 14).
pub(super) fn check(public: &Public) -> Result<(), Reject> {
    let policy = hex::encode(&public.auth_policy);
    let is_known = match (&public.key, public.name_alg) {
        (key, HashAlg::Sha256) if is_small(key) => {
            (public.attributes == LOW_ATTRIBUTES && policy == POLICY_A_SHA256)
                || (public.attributes == HIGH_ATTRIBUTES && policy == POLICY_B_SHA256)
        }
        (key, HashAlg::Sha384) if is_medium(key) => {
            public.attributes == HIGH_ATTRIBUTES && policy == POLICY_B_SHA384
        }
        (
            PublicKey::Ecc(EccKey {
                curve: Curve::P521, ..
            }),
            HashAlg::Sha512,
        ) => public.attributes == HIGH_ATTRIBUTES && policy == POLICY_B_SHA512,
        _ => false,
    };
    if !is_known || !has_known_parameters(&public.key) {
        return Err(Reject::EkTemplate);
    }
    strength::check_endorsement(&public.key)
}

fn is_small(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ecc(key) => key.curve == Curve::P256,
        PublicKey::Rsa(key) => key.modulus.len() == 256,
    }
}

fn is_medium(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ecc(key) => key.curve == Curve::P384,
        PublicKey::Rsa(key) => matches!(key.modulus.len(), 384 | 512),
    }
}

/// Storage keys encrypt with AES, of 128 bits where the key itself is no stronger, and sign nothing.
fn has_known_parameters(key: &PublicKey) -> bool {
    let (symmetric, scheme) = match key {
        PublicKey::Ecc(key) => (key.symmetric, key.scheme),
        PublicKey::Rsa(key) => (key.symmetric, key.scheme),
    };
    let bits = if is_small(key) { 128 } else { 256 };
    symmetric == Symmetric::AesCfb(bits) && scheme == Scheme::Null
}
