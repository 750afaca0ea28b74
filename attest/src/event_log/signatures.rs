//! EFI_SIGNATURE_LIST: what the variables of Secure Boot hold (UEFI 2.10 §32.4.1).

use super::record::LeReader;
use crate::{Digest, HashAlg, Reject};

/// A key or digest that Secure Boot lets pass, or keeps from starting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signature<'a> {
    /// What it is.
    pub kind: SignatureKind,
    /// GUID of whoever enrolled it, in the byte order of UEFI.
    pub owner: [u8; 16],
    /// Certificate in DER, or digest.
    pub data: &'a [u8],
}

/// What an entry of a list is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureKind {
    /// Of any other kind, such as the digest of a certificate.
    Other([u8; 16]),
    /// The SHA-256 of an image.
    Sha256,
    /// A certificate.
    X509,
}

/// EFI_CERT_SHA256_GUID.
const SHA256: u128 = 0x2616_c4c1_4c50_9240_aca9_41f9_3693_4328;
/// EFI_CERT_X509_GUID.
const X509: u128 = 0xa159_c0a5_e494_a74a_87b5_ab15_5c2b_f072;
/// Type, and three sizes.
const HEADER: usize = 28;
const OWNER: usize = 16;

impl Signature<'_> {
    /// SHA-256 of the certificate, or the digest itself.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        match self.kind {
            SignatureKind::Sha256 => self.data.iter().copied().collect(),
            SignatureKind::Other(_) | SignatureKind::X509 => HashAlg::Sha256.digest(&[self.data]),
        }
    }
}

/// Reads the lists that a variable holds, one after the other; an empty variable has none (51).
///
/// # Errors
///
/// [`Reject::SecureBootKeys`] if they are malformed.
pub fn signatures(variable: &[u8]) -> Result<Vec<Signature<'_>>, Reject> {
    let mut rest = variable;
    let mut found = Vec::new();
    while !rest.is_empty() {
        rest = read_list(rest, &mut found).map_err(|_| Reject::SecureBootKeys)?;
    }
    Ok(found)
}

/// Reads the first list, and gives what follows it.
fn read_list<'a>(bytes: &'a [u8], found: &mut Vec<Signature<'a>>) -> Result<&'a [u8], Reject> {
    let mut reader = LeReader::new(bytes);
    let kind = SignatureKind::of(reader.array()?);
    let sizes = [reader.u32()?, reader.u32()?, reader.u32()?].map(|size| size as usize);
    let [list, header, each] = sizes;
    let body = list
        .checked_sub(HEADER + header)
        .filter(|body| each > OWNER && body % each == 0)
        .ok_or(Reject::SecureBootKeys)?;
    let _header = reader.take(header)?;
    let mut body = LeReader::new(reader.take(body)?);
    while !body.rest().is_empty() {
        let owner = body.array()?;
        let data = body.take(each - OWNER)?;
        if kind == SignatureKind::Sha256 && data.len() != HashAlg::Sha256.digest_len() {
            return Err(Reject::SecureBootKeys);
        }
        found.push(Signature { kind, owner, data });
    }
    Ok(reader.rest())
}

impl SignatureKind {
    const fn of(guid: [u8; 16]) -> Self {
        match u128::from_be_bytes(guid) {
            SHA256 => Self::Sha256,
            X509 => Self::X509,
            _ => Self::Other(guid),
        }
    }
}
