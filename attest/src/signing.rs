//! Signatures of a TPM's keys over what the TPM says (23, 24).

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::{
    HashAlg, Reject,
    wire::{Curve, EccKey, PublicKey, RsaKey, Scheme, Signature},
};

/// Verifies a signature over `message`. The key fixes scheme and hash; a signature that names others is refused, and
/// so is SHA-1.
pub(crate) fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), Reject> {
    match (key, signature) {
        (PublicKey::Ecc(key), Signature::Ecdsa { hash, r, s }) if key.scheme == Scheme::Ecdsa(*hash) => {
            verify_ecdsa(key, *hash, message, [r, s])
        }
        (PublicKey::Rsa(key), Signature::RsaPss { hash, signature })
            if key.scheme == Scheme::RsaPss(*hash) =>
        {
            verify_rsa(key, pss(*hash)?, message, signature)
        }
        (PublicKey::Rsa(key), Signature::RsaSsa { hash, signature })
            if key.scheme == Scheme::RsaSsa(*hash) =>
        {
            verify_rsa(key, ssa(*hash)?, message, signature)
        }
        _ => Err(Reject::SignatureScheme),
    }
}

fn verify_ecdsa(key: &EccKey, hash: HashAlg, message: &[u8], halves: [&[u8]; 2]) -> Result<(), Reject> {
    let algorithm = ecdsa(key.curve, hash)?;
    let mut signature = Vec::with_capacity(2 * key.curve.coordinate_len());
    for half in halves {
        signature.extend(fixed(half, key.curve.coordinate_len())?);
    }
    UnparsedPublicKey::new(algorithm, key.point())
        .verify(message, &signature)
        .map_err(|_| Reject::SignatureInvalid)
}

/// Half a signature, as long as the curve's field: some TPMs leave leading zeros out.
fn fixed(half: &[u8], len: usize) -> Result<impl Iterator<Item = u8>, Reject> {
    let padding = len.checked_sub(half.len()).ok_or(Reject::SignatureInvalid)?;
    Ok(std::iter::repeat_n(0, padding).chain(half.iter().copied()))
}

fn verify_rsa(
    key: &RsaKey,
    parameters: &RsaParameters,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Reject> {
    if signature.len() != key.modulus.len() {
        return Err(Reject::SignatureInvalid);
    }
    let exponent = key.exponent.to_be_bytes();
    let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
    let components = RsaPublicKeyComponents {
        n: &*key.modulus,
        e: exponent.get(zeros..).unwrap_or_default(),
    };
    components
        .verify(parameters, message, signature)
        .map_err(|_| Reject::SignatureInvalid)
}

fn ecdsa(curve: Curve, hash: HashAlg) -> Result<&'static dyn VerificationAlgorithm, Reject> {
    match (curve, hash) {
        (Curve::P256, HashAlg::Sha256) => Ok(&signature::ECDSA_P256_SHA256_FIXED),
        (Curve::P384, HashAlg::Sha384) => Ok(&signature::ECDSA_P384_SHA384_FIXED),
        (Curve::P521, HashAlg::Sha512) => Ok(&signature::ECDSA_P521_SHA512_FIXED),
        _ => Err(Reject::SignatureScheme),
    }
}

fn pss(hash: HashAlg) -> Result<&'static RsaParameters, Reject> {
    match hash {
        HashAlg::Sha1 => Err(Reject::SignatureScheme),
        HashAlg::Sha256 => Ok(&signature::RSA_PSS_2048_8192_SHA256),
        HashAlg::Sha384 => Ok(&signature::RSA_PSS_2048_8192_SHA384),
        HashAlg::Sha512 => Ok(&signature::RSA_PSS_2048_8192_SHA512),
    }
}

fn ssa(hash: HashAlg) -> Result<&'static RsaParameters, Reject> {
    match hash {
        HashAlg::Sha1 => Err(Reject::SignatureScheme),
        HashAlg::Sha256 => Ok(&signature::RSA_PKCS1_2048_8192_SHA256),
        HashAlg::Sha384 => Ok(&signature::RSA_PKCS1_2048_8192_SHA384),
        HashAlg::Sha512 => Ok(&signature::RSA_PKCS1_2048_8192_SHA512),
    }
}
