//! What a platform certificate says of the machine (Platform Certificate Profile §3.2.5): names that its maker gave.

use std::fmt;

use x509_parser::{
    extensions::{GeneralName, ParsedExtension, X509Extension},
    oid_registry::asn1_rs::{Oid, oid},
    x509::X509Name,
};

use crate::Reject;

/// A machine, as its maker calls it. Prints its names one after the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chassis {
    /// Who made it.
    pub manufacturer: String,
    /// The maker's name of the model.
    pub model: String,
    /// Of which version the model is.
    pub version: String,
    /// The number of this one machine, where the certificate names it.
    pub serial: Option<String>,
}

/// Attributes of the profile, each with the name that the profile before had for it.
const MANUFACTURER: [Oid<'static>; 2] = [oid!(2.23.133.5.1.1), oid!(2.23.133.2.4)];
const MODEL: [Oid<'static>; 2] = [oid!(2.23.133.5.1.4), oid!(2.23.133.2.5)];
const VERSION: [Oid<'static>; 2] = [oid!(2.23.133.5.1.5), oid!(2.23.133.2.6)];
const SERIAL: [Oid<'static>; 2] = [oid!(2.23.133.5.1.6), oid!(2.23.133.2.23)];

impl Chassis {
    /// Reads the one subject alternative name: each attribute at most once, and all but the serial number there.
    pub(super) fn of(extensions: &[X509Extension<'_>]) -> Result<Self, Reject> {
        let mut found = extensions
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(names),
                _ => None,
            });
        let (Some(names), None) = (found.next(), found.next()) else {
            return Err(Reject::PlatformCertificateAttributes);
        };
        let directory: Vec<_> = names
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DirectoryName(name) => Some(name),
                _ => None,
            })
            .collect();
        let missing = Reject::PlatformCertificateAttributes;
        Ok(Self {
            manufacturer: value(&directory, &MANUFACTURER)?.ok_or(missing)?,
            model: value(&directory, &MODEL)?.ok_or(missing)?,
            version: value(&directory, &VERSION)?.ok_or(missing)?,
            serial: value(&directory, &SERIAL)?,
        })
    }
}

/// The value of an attribute, by either of its names.
fn value(names: &[&X509Name<'_>], either: &[Oid<'_>; 2]) -> Result<Option<String>, Reject> {
    let mut values = names
        .iter()
        .flat_map(|name| either.iter().flat_map(|oid| name.iter_by_oid(oid)));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value
                .as_str()
                .map_err(|_| Reject::PlatformCertificateAttributes)?;
            Ok(Some(text.trim().into()).filter(|text: &String| !text.is_empty()))
        }
        _ => Err(Reject::PlatformCertificateAttributes),
    }
}

impl fmt::Display for Chassis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.manufacturer, self.model)?;
        match &self.serial {
            Some(serial) => write!(f, " {serial}"),
            None => Ok(()),
        }
    }
}
