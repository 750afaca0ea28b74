//! Signatures of a TPM's keys over what the TPM says (23, 24).

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::{
    HashAlg, Reject, ek,
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
    // No longer than the curve's field; some TPMs leave leading zeros out.
    if halves.iter().any(|half| half.len() > key.curve.coordinate_len()) {
        return Err(Reject::SignatureInvalid);
    }
    UnparsedPublicKey::new(algorithm, key.point())
        .verify(message, &ek::ecdsa_signature(halves))
        .map_err(|_| Reject::SignatureInvalid)
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

/// A TPM signs with any hash on any curve: `tpm2_createak -G ecc384` takes SHA-256.
fn ecdsa(curve: Curve, hash: HashAlg) -> Result<&'static dyn VerificationAlgorithm, Reject> {
    match (curve, hash) {
        (_, HashAlg::Sha1) => Err(Reject::SignatureScheme),
        (Curve::P256, HashAlg::Sha256) => Ok(&signature::ECDSA_P256_SHA256_ASN1),
        (Curve::P256, HashAlg::Sha384) => Ok(&signature::ECDSA_P256_SHA384_ASN1),
        (Curve::P256, HashAlg::Sha512) => Ok(&signature::ECDSA_P256_SHA512_ASN1),
        (Curve::P384, HashAlg::Sha256) => Ok(&signature::ECDSA_P384_SHA256_ASN1),
        (Curve::P384, HashAlg::Sha384) => Ok(&signature::ECDSA_P384_SHA384_ASN1),
        (Curve::P384, HashAlg::Sha512) => Ok(&signature::ECDSA_P384_SHA512_ASN1),
        (Curve::P521, HashAlg::Sha256) => Ok(&signature::ECDSA_P521_SHA256_ASN1),
        (Curve::P521, HashAlg::Sha384) => Ok(&signature::ECDSA_P521_SHA384_ASN1),
        (Curve::P521, HashAlg::Sha512) => Ok(&signature::ECDSA_P521_SHA512_ASN1),
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
