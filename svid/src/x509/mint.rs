//! Making certificates: what one says is a [`Template`]; a key turns it into bytes.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SigningKey,
};
use rustls_pki_types::CertificateDer;

use super::{PublicKey, SerialNumber};
use crate::{DnsName, SpiffeId, Timestamp};

/// Everything that a certificate will say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Whom it names.
    pub id: SpiffeId,
    /// Names beside the ID.
    pub dns_names: Vec<DnsName>,
    /// The key it certifies.
    pub public_key: PublicKey,
    /// Serial number.
    pub serial: SerialNumber,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// Who it says it is about; software that does not know SPIFFE reads this.
    pub subject: Subject,
    /// What it may be used for.
    pub kind: TemplateKind,
}

/// Subject of a certificate: an organization, and perhaps a common name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Organization (`O`).
    pub organization: String,
    /// Common name (`CN`).
    pub common_name: Option<String>,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TemplateKind {
    /// Signs certificates and CRLs.
    Authority,
    /// Authenticates on both ends of a connection.
    Leaf,
}

/// The certificate that the issuer signs with, and its key.
pub type Issuer<K> = rcgen::Issuer<'static, K>;

/// A certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// A name is not ASCII.
    #[error("name `{0}` can't stand in a certificate")]
    Name(String),
    /// The signer refused.
    #[error("cannot sign certificate or CRL")]
    Sign(#[source] rcgen::Error),
}

/// Signs what `template` says. Without an issuer the certificate is self-signed, and `key` must be the one in
/// the template.
///
/// # Errors
///
/// A name can't be encoded, or the key can't sign.
pub fn sign<K: SigningKey>(
    template: &Template,
    issuer: &Issuer<K>,
) -> Result<CertificateDer<'static>, MintError> {
    let params = params(template)?;
    let signed = params
        .signed_by(&template.public_key, issuer)
        .map_err(MintError::Sign)?;
    Ok(signed.der().clone())
}

impl Template {
    /// Signs an authority's certificate with its own `key`.
    ///
    /// # Errors
    ///
    /// A name can't be encoded, or the key can't sign.
    pub fn self_sign(&self, key: &impl SigningKey) -> Result<CertificateDer<'static>, MintError> {
        let signed = params(self)?.self_signed(key).map_err(MintError::Sign)?;
        Ok(signed.der().clone())
    }
}

fn params(template: &Template) -> Result<CertificateParams, MintError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(template.serial.as_bytes().to_vec().into());
    params.not_before = template.not_before.to_calendar();
    params.not_after = template.not_after.to_calendar();
    params.distinguished_name = distinguished_name(&template.subject);
    params.subject_alt_names = alternative_names(template)?;
    params.use_authority_key_identifier_extension = true;
    match template.kind {
        TemplateKind::Authority => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        TemplateKind::Leaf => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
                KeyUsagePurpose::KeyAgreement,
            ];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        }
    }
    Ok(params)
}

fn distinguished_name(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, subject.organization.as_str());
    if let Some(common_name) = &subject.common_name {
        name.push(DnType::CommonName, common_name.as_str());
    }
    name
}

fn alternative_names(template: &Template) -> Result<Vec<SanType>, MintError> {
    let ascii = |text: &str| text.try_into().map_err(|_| MintError::Name(text.into()));
    let mut names = vec![SanType::URI(ascii(&template.id.to_string())?)];
    for dns_name in &template.dns_names {
        names.push(SanType::DnsName(ascii(dns_name.as_str())?));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
