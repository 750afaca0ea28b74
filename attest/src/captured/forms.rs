//! Keys and signatures in the forms that other tools write, as those of a TPM.

use x509_parser::{
    oid_registry::asn1_rs::{Integer, Sequence},
    prelude::FromDer,
    public_key::PublicKey as SpkiKey,
    x509::SubjectPublicKeyInfo,
};

use crate::{
    HashAlg,
    wire::{EccKey, PublicKey, RsaKey, Scheme, Signature, Symmetric},
};

/// A SubjectPublicKeyInfo in DER. It fixes no scheme.
pub(super) fn subject_public_key(der: &[u8]) -> Option<PublicKey> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    match info.parsed().ok()? {
        SpkiKey::RSA(key) => Some(PublicKey::Rsa(RsaKey {
            symmetric: Symmetric::Null,
            scheme: Scheme::Null,
            exponent: u32::try_from(key.try_exponent().ok()?).ok()?,
            modulus: trimmed(key.modulus).into(),
        })),
        SpkiKey::EC(point) => EccKey::of_point(point.data()).map(PublicKey::Ecc),
        _ => None,
    }
}

/// What a plain signature by `key` may be: DER for ECDSA, a number as long as the modulus for RSA. Where the key fixes no
/// hash, it is most likely the one that digests are as long of as `digest_len`: a quote digests PCRs with the hash that
/// it is signed with (Part 3 §18.4).
pub(super) fn plain(key: &PublicKey, bytes: &[u8], digest_len: usize) -> Option<Vec<Signature>> {
    match key {
        PublicKey::Ecc(key) => {
            let (r, s) = halves(bytes)?;
            let ecdsa = |hash| Signature::Ecdsa {
                hash,
                r: r.clone(),
                s: s.clone(),
            };
            Some(match key.scheme {
                Scheme::Ecdsa(hash) => vec![ecdsa(hash)],
                _ => likely_hashes(digest_len).map(ecdsa).collect(),
            })
        }
        PublicKey::Rsa(key) if bytes.len() == key.modulus.len() => {
            let pss = |hash| Signature::RsaPss {
                hash,
                signature: bytes.into(),
            };
            let ssa = |hash| Signature::RsaSsa {
                hash,
                signature: bytes.into(),
            };
            Some(match key.scheme {
                Scheme::RsaPss(hash) => vec![pss(hash)],
                Scheme::RsaSsa(hash) => vec![ssa(hash)],
                _ => likely_hashes(digest_len)
                    .flat_map(|hash| [ssa(hash), pss(hash)])
                    .collect(),
            })
        }
        PublicKey::Rsa(_) => None,
    }
}

/// Every hash, that with digests of `len` bytes first.
fn likely_hashes(len: usize) -> impl Iterator<Item = HashAlg> {
    let mut hashes = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512, HashAlg::Sha1];
    hashes.sort_by_key(|hash| hash.digest_len() != len);
    hashes.into_iter()
}

/// A number of a signature by ECDSA, big-endian.
type Half = Box<[u8]>;

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3), with nothing behind it.
fn halves(der: &[u8]) -> Option<(Half, Half)> {
    let (rest, sequence) = Sequence::from_der(der).ok()?;
    let (after_r, r) = Integer::from_der(&sequence.content).ok()?;
    let (after_s, s) = Integer::from_der(after_r).ok()?;
    let is_whole = rest.is_empty() && after_s.is_empty();
    is_whole.then(|| (trimmed(r.as_ref()).into(), trimmed(s.as_ref()).into()))
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
