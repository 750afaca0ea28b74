//! What an endorsement certificate says of the TPM: manufacturer, model, version (EK Credential Profile §3.1.2).
//! Vendors put them into one relative name with three values, or into three names.

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::asn1_rs::{Oid, oid},
    x509::X509Name,
};

use super::VendorId;
use crate::Reject;

const MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
const MODEL: Oid<'static> = oid!(2.23.133.2.2);
const VERSION: Oid<'static> = oid!(2.23.133.2.3);

/// The attributes of a TPM, as its certificate has them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmAttributes {
    /// Such as `id:53544D20`: the vendor's ID in hex.
    pub manufacturer: String,
    /// The vendor's name of the part.
    pub model: String,
    /// Such as `id:00010102`: firmware version.
    pub version: String,
}

impl TpmAttributes {
    /// The manufacturer, where it is named as the TCG registry has it.
    #[must_use]
    pub fn vendor(&self) -> Option<VendorId> {
        self.manufacturer.parse().ok()
    }

    /// The manufacturer's ID and the firmware's version in lower-case hex, as far as they are hex: certificates have them in
    /// upper case, behind `id:`.
    #[must_use]
    pub fn hex(&self) -> [Option<String>; 2] {
        [&self.manufacturer, &self.version].map(|text| {
            let digits = text.strip_prefix("id:")?;
            let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| digits.to_ascii_lowercase())
        })
    }
}

/// Reads the attributes: one of each, in the subject alternative name (5).
pub(super) fn attributes(certificate: &X509Certificate<'_>) -> Result<TpmAttributes, Reject> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| Reject::EkCertificateMalformed)?;
    let names = extension
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let directory: Vec<&X509Name<'_>> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        })
        .collect();
    Ok(TpmAttributes {
        manufacturer: only(&directory, &MANUFACTURER)?,
        model: only(&directory, &MODEL)?,
        version: only(&directory, &VERSION)?,
    })
}

fn only(names: &[&X509Name<'_>], attribute: &Oid<'_>) -> Result<String, Reject> {
    let mut values = names.iter().flat_map(|name| name.iter_by_oid(attribute));
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.as_str().map_err(|_| Reject::EkCertificateAttributes)?;
            Ok(text.into())
        }
        _ => Err(Reject::EkCertificateAttributes),
    }
}
