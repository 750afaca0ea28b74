//! What the kernel measured (PCR 10): files by digest, or by who signed them.

use std::collections::BTreeSet;

use aws_lc_rs::{digest, signature};
use serde::Deserialize;
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{
    Difference, DifferenceKind, Differences, Evidence, Reference,
    difference::{EventPlace, quoted},
};
use crate::{
    HashAlg,
    ima::{Entry, FileDigest},
};

/// Which files the kernel may have measured.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ImaRule {
    /// Digests of files that may be, whoever signed them.
    pub allow: Option<BTreeSet<Reference>>,
    /// Digests of files that must not be, even if they are signed. Files that are measured by other hashes than these have
    /// must not be either, unless they are in `allow`.
    pub deny: BTreeSet<Reference>,
    /// Keys that sign files that may be. Without `allow` and `keys` all may be that are not denied.
    pub keys: Option<Vec<ImaKey>>,
    /// Whether files may change while they are measured.
    pub violations: Violations,
}

/// What is made of files that changed while they were measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Violations {
    /// They are let pass.
    Accept,
    /// They are refused.
    #[default]
    Refuse,
}

/// A public key that signs files: DER SubjectPublicKeyInfo in hex, RSA, P-256 or P-384
/// (`openssl pkey -pubin -outform DER | xxd -p -c0`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ImaKey {
    der: Box<[u8]>,
    /// RSAPublicKey, or an uncompressed point.
    bits: Box<[u8]>,
    kind: KeyKind,
    /// How signatures name it: the end of the SHA-1 of the key's bits.
    id: [u8; 4],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyKind {
    P256,
    P384,
    Rsa,
}

/// The first entry of a boot, and no other of this name, is a digest over other PCRs, which are looked at themselves.
const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";
/// signature_v2_hdr: type and version of a signature over a file's digest (kernel, `security/integrity/integrity.h`).
const SIGNATURE_V2: [u8; 2] = [3, 2];

impl ImaRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, differences: &mut Differences) {
        let Some(list) = evidence.ima() else {
            return differences.push(Difference {
                kind: DifferenceKind::ImaMissing,
                subject: "measurement list".into(),
                expected: "one that PCR 10 proves".into(),
                found: "none".into(),
                event: None,
            });
        };
        self.check_entries(list.entries(), list.offset(), differences);
    }

    /// Of a list, or of what it got since.
    pub(super) fn check_entries<'a>(
        &self,
        entries: impl Iterator<Item = Entry<'a>>,
        before: u64,
        differences: &mut Differences,
    ) {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        for entry in entries {
            let is_first = before.saturating_add(entry.index) == 0;
            if let Some((kind, expected)) = self.judge(&entry, is_first) {
                differences.push(Difference {
                    kind,
                    subject: format!("file {}", shown_path(&entry)),
                    expected: expected.into(),
                    found: shown_digest(&entry),
                    event: Some(EventPlace {
                        index: before.saturating_add(entry.index),
                        pcr: entry.pcr,
                        claimed: None,
                    }),
                });
            }
        }
    }

    /// What is wrong with an entry, and what would be right.
    fn judge(&self, entry: &Entry<'_>, is_first: bool) -> Option<(DifferenceKind, &'static str)> {
        if entry.is_violation() {
            let is_refused = self.violations == Violations::Refuse;
            return is_refused.then_some((DifferenceKind::ImaViolation, "a file that does not change"));
        }
        let digest = entry.file_digest().and_then(|digest| reference(&digest));
        if digest.is_some_and(|digest| self.deny.contains(&digest)) {
            return Some((DifferenceKind::ImaDenied, "no file that is denied"));
        }
        if is_first && entry.path() == Some(BOOT_AGGREGATE) {
            return None;
        }
        let is_asked = self.allow.is_some() || self.keys.is_some();
        let is_allowed = digest.is_some_and(|digest| self.allow.iter().any(|allow| allow.contains(&digest)));
        let is_signed = || self.keys.iter().flatten().any(|key| key.signed(entry));
        if is_asked && !is_allowed && !is_signed() {
            return Some((
                DifferenceKind::ImaUnknown,
                "a known file, or one that a known key signed",
            ));
        }
        // Of what has no digest to look up, nobody knows whether it is denied.
        let is_looked_up =
            || digest.is_some_and(|digest| self.deny.iter().any(|deny| deny.alg() == digest.alg()));
        (!self.deny.is_empty() && !is_allowed && !is_looked_up()).then_some((
            DifferenceKind::ImaUnknown,
            "a file with a digest of a hash of those that are denied",
        ))
    }
}

/// The digest of a file, if its hash is one to decide on; that of fs-verity is no digest of what is in it.
pub(super) fn reference(file: &FileDigest<'_>) -> Option<Reference> {
    alg_of(file.alg).and_then(|alg| Reference::new(alg, file.digest))
}

fn alg_of(name: &str) -> Option<HashAlg> {
    super::parse::BANKS
        .into_iter()
        .find(|alg| alg.to_string() == name)
}

fn shown_path(entry: &Entry<'_>) -> String {
    quoted(&String::from_utf8_lossy(entry.path().unwrap_or_default()))
}

fn shown_digest(entry: &Entry<'_>) -> String {
    match entry.file_digest() {
        Some(file) if !entry.is_violation() => {
            let alg: String = file.alg.chars().filter(char::is_ascii_graphic).take(16).collect();
            format!("{alg} {}", hex::encode(file.digest))
        }
        _ => "one that changed".into(),
    }
}

impl ImaKey {
    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it signed the file of `entry`.
    fn signed(&self, entry: &Entry<'_>) -> bool {
        let verify = || {
            let file = entry.file_digest()?;
            let alg = alg_of(file.alg)?;
            let (id, signature) = read_signature(entry.signature()?)?;
            let imported = digest::Digest::import_less_safe(file.digest, provider(alg)?).ok()?;
            let key = signature::UnparsedPublicKey::new(self.algorithm(alg)?, &self.bits);
            (id == self.id && key.verify_digest(&imported, signature).is_ok()).then_some(())
        };
        verify().is_some()
    }

    fn algorithm(&self, alg: HashAlg) -> Option<&'static dyn signature::VerificationAlgorithm> {
        Some(match (self.kind, alg) {
            (KeyKind::P256, HashAlg::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, HashAlg::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, HashAlg::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, HashAlg::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::Rsa, HashAlg::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, HashAlg::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, HashAlg::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (_, HashAlg::Sha1) | (KeyKind::P256 | KeyKind::P384, HashAlg::Sha512) => return None,
        })
    }
}

const fn provider(alg: HashAlg) -> Option<&'static digest::Algorithm> {
    match alg {
        HashAlg::Sha1 => None,
        HashAlg::Sha256 => Some(&digest::SHA256),
        HashAlg::Sha384 => Some(&digest::SHA384),
        HashAlg::Sha512 => Some(&digest::SHA512),
    }
}

/// The key's identifier and the signature, of a signature as it stands in the extended attribute.
fn read_signature(bytes: &[u8]) -> Option<([u8; 4], &[u8])> {
    let rest = bytes.strip_prefix(&SIGNATURE_V2)?;
    let (_hash, rest) = rest.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (len, signature) = rest.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*len)) == signature.len()).then_some((*id, signature))
}

impl TryFrom<String> for ImaKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a key is a DER SubjectPublicKeyInfo in hex: RSA, P-256 or P-384";
        let der = hex::decode(&text).map_err(|_| WRONG)?;
        let (rest, key) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| WRONG)?;
        let kind = match key.parsed().map_err(|_| WRONG)? {
            PublicKey::EC(point) if point.data().len() == 65 => KeyKind::P256,
            PublicKey::EC(point) if point.data().len() == 97 => KeyKind::P384,
            PublicKey::RSA(_) => KeyKind::Rsa,
            _ => return Err(WRONG),
        };
        let bits: Box<[u8]> = key.subject_public_key.data.as_ref().into();
        if !rest.is_empty() {
            return Err(WRONG);
        }
        let id = *HashAlg::Sha1
            .digest(&[&bits])
            .as_bytes()
            .last_chunk()
            .ok_or(WRONG)?;
        Ok(Self {
            der: der.into(),
            bits,
            kind,
            id,
        })
    }
}
