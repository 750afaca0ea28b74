//! Endorsement certificates, with the quirks that vendors gave them. Quirks are tolerated here and nowhere else,
//! and signatures are always checked over the original bytes.

use std::fmt;

use x509_parser::{
    certificate::X509Certificate,
    extensions::ParsedExtension,
    oid_registry::asn1_rs::{Oid, oid},
    prelude::FromDer,
};

use super::{
    EkHash, der,
    names::{self, TpmAttributes},
};
use crate::{Reject, strength, wire::PublicKey};

/// A parsed endorsement certificate. Nothing of it is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EkCertificate {
    /// The certificate alone, without what vendors put around it.
    der: Vec<u8>,
    id: CertificateId,
    attributes: TpmAttributes,
    /// The content of the key's BIT STRING.
    key_bits: Vec<u8>,
}

/// By which certificates are told apart: issuer and serial number.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId {
    issuer: String,
    serial: Vec<u8>,
}

/// Longest certificate in bytes, with padding: NV indices hold 2 KB.
const MAX_LEN: usize = 8 * 1024;
/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.1);

impl EkCertificate {
    /// Parses a certificate as it stands in NV memory (3, 4, 5, 7, 8).
    ///
    /// Tolerated are a header `10 01 00` with a length before it, zeros or ones after it, sets that are not
    /// sorted, and a key that is marked for OAEP alone.
    ///
    /// # Errors
    ///
    /// It is malformed, or not made for an endorsement key.
    pub fn parse(nv: &[u8]) -> Result<Self, Reject> {
        let der = unwrap(nv)?;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| Reject::EkCertificateMalformed)?;
        if !is_padding(rest) {
            return Err(Reject::EkCertificateMalformed);
        }
        check_usage(&certificate)?;
        check_critical(&certificate)?;
        Ok(Self {
            der: der.get(..der.len() - rest.len()).unwrap_or(der).into(),
            id: CertificateId::of(&certificate),
            attributes: names::attributes(&certificate)?,
            key_bits: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// In DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// By which it is told apart.
    #[must_use]
    pub fn id(&self) -> CertificateId {
        self.id.clone()
    }

    /// What it says of the TPM.
    #[must_use]
    pub const fn attributes(&self) -> &TpmAttributes {
        &self.attributes
    }

    /// Hash of the key that it is for, by which hosts are enrolled; `None` if that is no key that a TPM has.
    #[must_use]
    pub fn key_hash(&self) -> Option<EkHash> {
        der::public_key(&self.key_bits).map(|key| EkHash::of(&key))
    }

    /// Checks that it is for `key` (13). The algorithm that it names is not looked at: some vendors name one that
    /// only encrypts, and the key's own public area says more.
    pub(super) fn check_key(&self, key: &PublicKey) -> Result<(), Reject> {
        let is_same = match key {
            PublicKey::Ecc(key) => self.key_bits == key.point(),
            PublicKey::Rsa(key) => der::is_rsa_key(&self.key_bits, key),
        };
        if is_same { Ok(()) } else { Err(Reject::EkMismatch) }
    }

    /// Checks that nobody can compute its key (9, 10): a good chain does not make a weak key better.
    pub(super) fn check_strength(&self) -> Result<(), Reject> {
        let key = der::public_key(&self.key_bits).ok_or(Reject::EkWeak)?;
        strength::check_endorsement(&key)
    }
}

impl CertificateId {
    /// From the issuer's name as any tool prints it, and the serial number in big-endian bytes.
    ///
    /// Tools differ in the order of a name's parts, in the spaces around them and in the letters of their types:
    /// none of these count.
    #[must_use]
    pub fn new(issuer: &str, serial: &[u8]) -> Self {
        Self {
            issuer: canonical(issuer),
            serial: serial.iter().copied().skip_while(|byte| *byte == 0).collect(),
        }
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self::new(
            &certificate.issuer().to_string(),
            &certificate.serial.to_bytes_be(),
        )
    }

    /// Name of the issuer, such as `C=CH,CN=STM TPM EK Intermediate CA 06,O=STMicroelectronics NV`: its parts sorted.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Serial number, big-endian, without leading zeros.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// A distinguished name with its parts trimmed, their types in capitals, sorted. Some tools escape commas within
/// parts, others don't: they are separators for either.
fn canonical(name: &str) -> String {
    let name = name.replace('\\', "");
    let mut parts: Vec<String> = name
        .split([',', '+'])
        .map(|part| match part.split_once('=') {
            Some((kind, value)) => format!("{}={}", kind.trim().to_uppercase(), value.trim()),
            None => part.trim().to_owned(),
        })
        .filter(|part| !part.is_empty())
        .collect();
    parts.sort();
    parts.join(",")
}

/// `serial 0a1b of CN=…`.
impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {} of {}", hex::encode(&self.serial), self.issuer)
    }
}

/// Takes off the header that some vendors put before a certificate (PC Client TPM 1.2 §7.4.5): tag, type,
/// length, and in some parts another tag. The certificate's own length says where it ends, and padding follows.
fn unwrap(nv: &[u8]) -> Result<&[u8], Reject> {
    if nv.len() > MAX_LEN {
        return Err(Reject::TooLarge);
    }
    match nv {
        [0x10, 0x01, 0x00, _, _, 0x10, 0x02, rest @ ..] | [0x10, 0x01, 0x00, _, _, rest @ ..] => Ok(rest),
        _ => Ok(nv),
    }
}

fn is_padding(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xff)
}

/// Not a CA; for encryption or key agreement; for endorsement, where it says for what (3).
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Reject> {
    let malformed = |_| Reject::EkCertificateMalformed;
    if certificate.is_ca() {
        return Err(Reject::EkCertificateUsage);
    }
    let usage = certificate
        .key_usage()
        .map_err(malformed)?
        .map(|extension| extension.value);
    if usage.is_some_and(|usage| !usage.key_encipherment() && !usage.key_agreement()) {
        return Err(Reject::EkCertificateUsage);
    }
    let purposes = certificate
        .extended_key_usage()
        .map_err(malformed)?
        .map(|extension| extension.value);
    if purposes.is_some_and(|purposes| !purposes.other.contains(&EK_CERTIFICATE)) {
        return Err(Reject::EkCertificateUsage);
    }
    Ok(())
}

/// Critical extensions are those that we process (4). No policy is required of anyone, so that of certificate
/// policies is processed by ignoring it (RFC 5280 §6.1). Key identifiers are hints, and restrict nothing.
pub(super) fn check_critical(certificate: &X509Certificate<'_>) -> Result<(), Reject> {
    let is_processed = |extension: &ParsedExtension<'_>| {
        matches!(
            extension,
            ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::BasicConstraints(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::SubjectKeyIdentifier(_)
        )
    };
    let mut critical = certificate
        .iter_extensions()
        .filter(|extension| extension.critical);
    if critical.all(|extension| is_processed(extension.parsed_extension())) {
        Ok(())
    } else {
        Err(Reject::EkCertificateCritical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_the_same_however_a_tool_prints_them() {
        let ours = CertificateId::new(
            "C=CH, O=STMicroelectronics NV, CN=STM TPM EK Intermediate CA 06",
            &[0, 0x0a],
        );
        for other in [
            "CN=STM TPM EK Intermediate CA 06,O=STMicroelectronics NV,C=CH",
            "C = CH, O = STMicroelectronics NV, CN = STM TPM EK Intermediate CA 06",
            "cn=STM TPM EK Intermediate CA 06+o=STMicroelectronics NV, c=CH",
        ] {
            assert_eq!(CertificateId::new(other, &[0x0a]), ours, "{other}");
        }
        assert_eq!(
            ours.to_string(),
            "serial 0a of C=CH,CN=STM TPM EK Intermediate CA 06,O=STMicroelectronics NV"
        );
        assert_ne!(CertificateId::new("C=CH, O=Another", &[0x0a]), ours);
        assert_ne!(CertificateId::new(ours.issuer(), &[0x0b]), ours);
    }

    #[test]
    fn commas_may_be_escaped_or_not() {
        let ours = CertificateId::new("O=Acme, Inc., CN=ca", &[1]);
        assert_eq!(CertificateId::new("CN=ca,O=Acme\\, Inc.", &[1]), ours);
    }
}
