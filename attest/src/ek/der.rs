//! The DER forms of keys and signatures, rebuilt from them (RFC 5280 §4.1.2.7, RFC 3279 §2.3.1, RFC 5480 §2).

use crate::wire::{Curve, EccKey, PublicKey, RsaKey, Scheme, Symmetric};

/// rsaEncryption with NULL parameters.
const RSA_ALGORITHM: [u8; 13] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// id-ecPublicKey.
const EC_ALGORITHM: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// SubjectPublicKeyInfo of a key.
pub(crate) fn subject_public_key_info(key: &PublicKey) -> Vec<u8> {
    let (algorithm, bits) = match key {
        PublicKey::Ecc(key) => (ec_algorithm(key.curve), key.point()),
        PublicKey::Rsa(key) => (RSA_ALGORITHM.to_vec(), rsa_public_key(key)),
    };
    let bits = element(BIT_STRING, &[&[0], bits.as_slice()].concat());
    element(SEQUENCE, &[element(SEQUENCE, &algorithm), bits].concat())
}

/// Ecdsa-Sig-Value of r and s, big-endian (RFC 3279 §2.2.3).
pub(crate) fn ecdsa_signature(halves: [&[u8]; 2]) -> Vec<u8> {
    element(SEQUENCE, &halves.map(integer).concat())
}

/// Whether the content of a certificate's BIT STRING is this key.
pub(super) fn is_rsa_key(bits: &[u8], key: &RsaKey) -> bool {
    rsa_key(bits)
        .is_some_and(|read| *read.modulus == *significant(&key.modulus) && read.exponent == key.exponent)
}

/// The key that a certificate's BIT STRING holds, whatever algorithm the certificate names: an RSAPublicKey, or a point.
pub(super) fn public_key(bits: &[u8]) -> Option<PublicKey> {
    let rsa = rsa_key(bits).map(PublicKey::Rsa);
    rsa.or_else(|| EccKey::of_point(bits).map(PublicKey::Ecc))
}

/// An RSAPublicKey: some vendors pad its numbers with zeros, which parsers of DER refuse.
fn rsa_key(bits: &[u8]) -> Option<RsaKey> {
    let (numbers, rest) = content(SEQUENCE, bits)?;
    let (modulus, exponent) = content(INTEGER, numbers)?;
    let (exponent, end) = content(INTEGER, exponent)?;
    let exponent = significant(exponent);
    let is_whole = rest.is_empty() && end.is_empty() && exponent.len() <= size_of::<u32>();
    is_whole.then(|| RsaKey {
        symmetric: Symmetric::Null,
        scheme: Scheme::Null,
        exponent: exponent
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)),
        modulus: significant(modulus).into(),
    })
}

/// The content of an element of up to 65,535 bytes, and what follows it.
fn content(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [first, 0x82, high, low, rest @ ..] if *first == tag => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        }
        [first, 0x81, length, rest @ ..] if *first == tag => rest.split_at_checked(usize::from(*length)),
        [first, length @ 0..=0x7f, rest @ ..] if *first == tag => rest.split_at_checked(usize::from(*length)),
        _ => None,
    }
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// RSAPublicKey (RFC 8017 §A.1.1).
fn rsa_public_key(key: &RsaKey) -> Vec<u8> {
    element(
        SEQUENCE,
        &[integer(&key.modulus), integer(&key.exponent.to_be_bytes())].concat(),
    )
}

fn ec_algorithm(curve: Curve) -> Vec<u8> {
    let curve = match curve {
        Curve::P256 => P256.as_slice(),
        Curve::P384 => &P384,
        Curve::P521 => &P521,
    };
    [&EC_ALGORITHM, curve].concat()
}

/// A positive INTEGER of big-endian bytes.
fn integer(number: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let is_negative = significant.first().is_none_or(|byte| byte & 0x80 != 0);
    let sign = if is_negative { &[0][..] } else { &[] };
    element(INTEGER, &[sign, &significant].concat())
}

/// Tag, length and content; no key comes near 65,535 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let header = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, content].concat()
}
