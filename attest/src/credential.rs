//! The crate's one exception to "no randomness": credentials that only the TPM with the right keys recovers.
//!
//! What TPM2_MakeCredential does, without a TPM (TCG TPM 2.0 Library, Part 1 §24): a secret is encrypted to an
//! endorsement key and bound to the Name of an attestation key. TPM2_ActivateCredential gives it back only where
//! the private halves of both are. Whoever returns it has shown that one TPM holds both keys.

mod seed;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::{
    cipher::{AES_128, AES_192, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    constant_time,
    error::Unspecified,
    hmac,
    kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac},
    rand,
};
use zeroize::Zeroizing;

use crate::{
    HashAlg, Name, Reject,
    wire::{Public, PublicKey, Symmetric},
};

/// A credential that was sent out, until its secret comes back. It is spent by the first answer.
pub struct IssuedCredential {
    secret: Zeroizing<[u8; SECRET_LEN]>,
    binding: KeyBinding,
}

/// What the TPM needs to recover the secret, as parameters of TPM2_ActivateCredential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialBlob {
    /// TPM2B_ID_OBJECT, without its size.
    pub credential_blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, without its size.
    pub secret: Vec<u8>,
}

/// Proof that one TPM holds both an endorsement key and an attestation key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyBinding {
    endorsement_key: Name,
    attestation_key: Name,
}

/// As long as the shortest digest of an endorsement key's Name: the longest secret that fits every key.
const SECRET_LEN: usize = 32;

impl IssuedCredential {
    /// Draws a secret that only the TPM which holds both `ek` and `ak` recovers.
    ///
    /// # Errors
    ///
    /// Nothing can be encrypted to `ek`: it is no storage key ([`Reject::EkTemplate`]), or no valid public key
    /// ([`Reject::EkWeak`]).
    pub fn issue(ek: &Public, ak: &Name) -> Result<(Self, CredentialBlob), Reject> {
        let key_bits = storage_key_bits(ek)?;
        if ek.name_alg.digest_len() < SECRET_LEN {
            return Err(Reject::EkTemplate);
        }
        let (seed, encrypted_seed) = seed::share(ek)?;
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        rand::fill(secret.as_mut()).map_err(cannot_encrypt)?;
        let credential_blob =
            protect(&seed, ek.name_alg, key_bits, ak, secret.as_ref()).map_err(cannot_encrypt)?;
        let binding = KeyBinding {
            endorsement_key: ek.name(),
            attestation_key: ak.clone(),
        };
        let blob = CredentialBlob {
            credential_blob,
            secret: encrypted_seed,
        };
        Ok((Self { secret, binding }, blob))
    }

    /// Compares what came back, in constant time. Consumes `self`: one credential, one answer.
    ///
    /// # Errors
    ///
    /// [`Reject::CredentialMismatch`] if it is not the secret.
    pub fn verify(self, recovered: &[u8]) -> Result<KeyBinding, Reject> {
        constant_time::verify_slices_are_equal(self.secret.as_ref(), recovered)
            .map_err(|_| Reject::CredentialMismatch)?;
        Ok(self.binding)
    }

    /// The key that the secret was encrypted to.
    #[must_use]
    pub const fn endorsement_key(&self) -> &Name {
        &self.binding.endorsement_key
    }
}

impl fmt::Debug for IssuedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCredential")
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}

impl KeyBinding {
    /// The endorsement key.
    #[must_use]
    pub const fn endorsement_key(&self) -> &Name {
        &self.endorsement_key
    }

    /// The attestation key that is in the same TPM.
    #[must_use]
    pub const fn attestation_key(&self) -> &Name {
        &self.attestation_key
    }
}

fn storage_key_bits(ek: &Public) -> Result<u16, Reject> {
    let symmetric = match &ek.key {
        PublicKey::Ecc(key) => key.symmetric,
        PublicKey::Rsa(key) => key.symmetric,
    };
    match symmetric {
        Symmetric::AesCfb(bits) => Ok(bits),
        Symmetric::Null => Err(Reject::EkTemplate),
    }
}

/// The system's random numbers don't run out, and keys that we derive have the length they must have: what is
/// left to fail is the endorsement key.
fn cannot_encrypt(_: Unspecified) -> Reject {
    Reject::EkWeak
}

/// TPMS_ID_OBJECT: the encrypted secret, and before it a MAC over that and the attestation key's Name (§24.5).
fn protect(
    seed: &[u8],
    hash: HashAlg,
    key_bits: u16,
    ak: &Name,
    secret: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let key = kdfa(hash, seed, "STORAGE", ak.as_bytes(), usize::from(key_bits / 8))?;
    let mut encrypted = sized(secret);
    encrypt_cfb(&key, &mut encrypted)?;
    let mac_key = kdfa(hash, seed, "INTEGRITY", &[], hash.digest_len())?;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac_algorithm(hash)?, &mac_key));
    mac.update(&encrypted);
    mac.update(ak.as_bytes());
    Ok([sized(mac.sign().as_ref()), encrypted].concat())
}

/// KDFa (Part 1 §11.4.10.2): the label, here one that ends in zero, and one context.
fn kdfa(
    hash: HashAlg,
    key: &[u8],
    label: &str,
    context: &[u8],
    len: usize,
) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let id = match hash {
        HashAlg::Sha1 => return Err(Unspecified),
        HashAlg::Sha256 => KbkdfCtrHmacAlgorithmId::Sha256,
        HashAlg::Sha384 => KbkdfCtrHmacAlgorithmId::Sha384,
        HashAlg::Sha512 => KbkdfCtrHmacAlgorithmId::Sha512,
    };
    let algorithm = get_kbkdf_ctr_hmac_algorithm(id).ok_or(Unspecified)?;
    let bits = u32::try_from(len * 8).map_err(|_| Unspecified)?;
    let info = [label.as_bytes(), &[0], context, &bits.to_be_bytes()].concat();
    let mut derived = Zeroizing::new(vec![0; len]);
    kbkdf_ctr_hmac(algorithm, key, &info, &mut derived)?;
    Ok(derived)
}

/// AES in CFB mode from an IV of zeros: the key is used once (§24.4).
fn encrypt_cfb(key: &[u8], in_out: &mut [u8]) -> Result<(), Unspecified> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key)?)?;
    key.less_safe_encrypt(in_out, EncryptionContext::Iv128([0; 16].into()))?;
    Ok(())
}

fn hmac_algorithm(hash: HashAlg) -> Result<hmac::Algorithm, Unspecified> {
    match hash {
        HashAlg::Sha1 => Err(Unspecified),
        HashAlg::Sha256 => Ok(hmac::HMAC_SHA256),
        HashAlg::Sha384 => Ok(hmac::HMAC_SHA384),
        HashAlg::Sha512 => Ok(hmac::HMAC_SHA512),
    }
}

/// A TPM2B. What comes here is at most a modulus long.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), bytes].concat()
}
