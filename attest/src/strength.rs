//! Keys that others can compute (9, 10): from weak generators, too short, or no valid keys at all.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey,
    VerificationAlgorithm,
};

use crate::{
    Reject,
    wire::{Curve, EccKey, PublicKey, RsaKey},
};

/// Why a key can be computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weakness {
    /// Its primes are of the form that can be found (CVE-2017-15361, "ROCA").
    Roca,
    /// Too short, of another exponent, with a small factor, or off the curve.
    Invalid,
}

/// Shortest modulus in bytes: 2048 bits.
const MIN_MODULUS: usize = 256;
/// The primes below 256 are tried as factors.
const PRIMES: [u32; 54] = [
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223,
    227, 229, 233, 239, 241, 251,
];
/// The vulnerable generator made primes k·M + (65537^a mod M), where M is the product of all primes up to this one
/// for its shortest keys, and up to larger ones for others (Nemec et al., CCS 2017, §2.1).
const ROCA_PRIMES: u32 = 167;
const ROCA_GENERATOR: u32 = 65537;

/// Checks a key of a TPM.
pub(crate) fn check(key: &PublicKey) -> Result<(), Weakness> {
    match key {
        PublicKey::Ecc(key) if is_on_curve(key) => Ok(()),
        PublicKey::Ecc(_) => Err(Weakness::Invalid),
        PublicKey::Rsa(key) => check_rsa(key),
    }
}

/// Checks an endorsement key (9, 10).
pub(crate) fn check_endorsement(key: &PublicKey) -> Result<(), Reject> {
    check(key).map_err(|weakness| match weakness {
        Weakness::Invalid => Reject::EkWeak,
        Weakness::Roca => Reject::EkRoca,
    })
}

/// 2048 bits or more with the top one set, and exponent 65537: that of every TPM. Smaller ones fall to short
/// messages, 1 encrypts nothing, and an even one has no inverse.
fn check_rsa(key: &RsaKey) -> Result<(), Weakness> {
    let is_full = key.modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    if key.exponent != 65537 || key.modulus.len() < MIN_MODULUS || !is_full {
        return Err(Weakness::Invalid);
    }
    check_modulus(&key.modulus)
}

/// Checks that a modulus has no small factor, and not the form of a vulnerable generator's.
pub(crate) fn check_modulus(modulus: &[u8]) -> Result<(), Weakness> {
    if PRIMES.iter().any(|prime| remainder(modulus, *prime) == 0) {
        return Err(Weakness::Invalid);
    }
    let mut primes = PRIMES.into_iter().filter(|prime| *prime <= ROCA_PRIMES);
    if primes.all(|prime| is_power(remainder(modulus, prime), prime)) {
        return Err(Weakness::Roca);
    }
    Ok(())
}

/// Whether `residue` is a power of the generator modulo `prime`. A modulus of independent primes passes for all
/// primes at once less often than once in 2^27.
fn is_power(residue: u32, prime: u32) -> bool {
    let powers = std::iter::successors(Some(1), |power| Some(power * (ROCA_GENERATOR % prime) % prime));
    powers.take(prime as usize).any(|power| power == residue)
}

/// Of a big-endian number by one below 2^23.
fn remainder(number: &[u8], divisor: u32) -> u32 {
    let step = |remainder: u32, byte: &u8| ((remainder << 8) | u32::from(*byte)) % divisor;
    number.iter().fold(0, step)
}

fn is_on_curve(key: &EccKey) -> bool {
    let algorithm: &'static dyn VerificationAlgorithm = match key.curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1,
        Curve::P521 => &ECDSA_P521_SHA512_ASN1,
    };
    ParsedPublicKey::new(algorithm, key.point()).is_ok()
}
