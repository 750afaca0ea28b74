//! Certificate revocation lists: what one says is a [`CrlContent`]; the authority's key turns it into bytes.
//! RFC 5280 §5.

use rcgen::{CertificateParams, CertificateRevocationListParams, RevokedCertParams, SigningKey};

use x509_parser::{
    extensions::ParsedExtension, prelude::FromDer, revocation_list::CertificateRevocationList,
};

use super::{Issuer, MintError, SerialNumber};
use crate::Timestamp;

/// Everything that a CRL says: which certificates of its issuer no longer count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CrlContent {
    /// Greater than that of the issuer's CRL before (§5.2.3).
    pub number: u64,
    /// When it was made (§5.1.2.4).
    pub this_update: Timestamp,
    /// When there is another one at the latest (§5.1.2.5).
    pub next_update: Timestamp,
    /// The certificates (§5.1.2.6).
    pub revoked: Vec<Revoked>,
}

/// A certificate that no longer counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it would have ended.
    pub not_after: Timestamp,
    /// Since when it does not count.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate no longer counts (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevocationReason {
    /// Whoever had it is there no more.
    CessationOfOperation,
    /// Whoever has it may not have it any more.
    PrivilegeWithdrawn,
}

/// Signs what `content` says; the CRL in DER.
///
/// # Errors
///
/// It ends before it begins, the issuer may not sign CRLs, or its key can't sign.
pub fn sign_crl<K: SigningKey>(content: &CrlContent, issuer: &Issuer<K>) -> Result<Vec<u8>, MintError> {
    let revoked = content.revoked.iter().map(|revoked| RevokedCertParams {
        serial_number: revoked.serial.as_bytes().to_vec().into(),
        revocation_time: revoked.revoked_at.to_calendar(),
        reason_code: Some(revoked.reason.to_rcgen()),
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: content.this_update.to_calendar(),
        next_update: content.next_update.to_calendar(),
        crl_number: content.number.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        // As authorities' certificates are made: relying parties find the issuer by it.
        key_identifier_method: CertificateParams::default().key_identifier_method,
    };
    let signed = params.signed_by(issuer).map_err(MintError::Sign)?;
    Ok(signed.der().to_vec())
}

/// Whose a CRL is: the identifier of its authority's key (RFC 5280 §5.2.1). `None` if it is no CRL, or names none.
#[must_use]
pub fn crl_authority(der: &[u8]) -> Option<Vec<u8>> {
    let (_, crl) = CertificateRevocationList::from_der(der).ok()?;
    let mut extensions = crl.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(named) => Some(named.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

impl RevocationReason {
    const fn to_rcgen(self) -> rcgen::RevocationReason {
        match self {
            Self::CessationOfOperation => rcgen::RevocationReason::CessationOfOperation,
            Self::PrivilegeWithdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use x509_parser::{
        certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer,
        revocation_list::CertificateRevocationList, x509::ReasonCode,
    };

    use super::*;
    use crate::{
        TrustDomain,
        x509::{PublicKey, Subject, Template, TemplateKind},
    };

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn authority() -> (Vec<u8>, Issuer<rcgen::KeyPair>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let template = Template {
            id: TrustDomain::parse("example.org").unwrap().id(),
            dns_names: Vec::new(),
            public_key: PublicKey::from_spki(&spki).unwrap(),
            serial: SerialNumber::from_random([7; 16]),
            not_before: NOW,
            not_after: NOW.plus(Duration::from_secs(3600)),
            subject: Subject {
                organization: "Plastron".into(),
                common_name: Some("ca".into()),
            },
            kind: TemplateKind::Authority,
        };
        let certificate = template.self_sign(&key).unwrap();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).unwrap();
        (certificate.to_vec(), issuer)
    }

    fn revoked(serial: u8, reason: RevocationReason) -> Revoked {
        Revoked {
            serial: SerialNumber::from_bytes(&[0xf0, serial]),
            not_after: NOW,
            revoked_at: NOW.minus(Duration::from_secs(5)),
            reason,
        }
    }

    fn check(revoked: Vec<Revoked>, expected: &[(&[u8], ReasonCode)]) {
        let (certificate, issuer) = authority();
        let content = CrlContent {
            number: 1_800_000_001,
            this_update: NOW,
            next_update: NOW.plus(Duration::from_secs(60)),
            revoked,
        };
        let der = sign_crl(&content, &issuer).unwrap();
        let (rest, crl) = CertificateRevocationList::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let (_, ca) = X509Certificate::from_der(&certificate).unwrap();
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &ca.public_key().subject_public_key.data,
        );
        key.verify(crl.tbs_cert_list.as_ref(), &crl.signature_value.data)
            .unwrap();
        assert_eq!(crl.issuer(), ca.subject());
        assert_eq!(crl.crl_number().unwrap().to_string(), "1800000001");
        assert_eq!(crl.last_update().timestamp(), NOW.as_unix());
        assert_eq!(crl.next_update().unwrap().timestamp(), NOW.as_unix() + 60);
        let authority_key = crl
            .extensions()
            .iter()
            .find_map(|found| match found.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.clone(),
                _ => None,
            });
        let subject_key = ca
            .iter_extensions()
            .find_map(|found| match found.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(found) => Some(found.clone()),
                _ => None,
            });
        assert!(subject_key.is_some());
        assert_eq!(authority_key, subject_key);
        let said: Vec<_> = crl
            .iter_revoked_certificates()
            .map(|one| {
                assert_eq!(one.revocation_date.timestamp(), NOW.as_unix() - 5);
                (one.raw_serial().to_vec(), one.reason_code().unwrap().1)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(serial, reason)| (serial.to_vec(), *reason))
            .collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn says_what_its_issuer_no_longer_stands_for() {
        check(Vec::new(), &[]);
        check(
            vec![
                revoked(1, RevocationReason::PrivilegeWithdrawn),
                revoked(2, RevocationReason::CessationOfOperation),
            ],
            &[
                (&[0, 0xf0, 1], ReasonCode::PrivilegeWithdrawn),
                (&[0, 0xf0, 2], ReasonCode::CessationOfOperation),
            ],
        );
    }

    #[test]
    fn refuses_a_list_that_ends_before_it_begins() {
        let (_, issuer) = authority();
        let content = CrlContent {
            this_update: NOW,
            next_update: NOW,
            ..CrlContent::default()
        };
        sign_crl(&content, &issuer).unwrap_err();
    }
}
