//! Files that say which endorsement certificates count: roots, intermediates, CRLs, advisories. They are read once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use attest::ek::{
    Action, Advisories, Advisory, CaCertificate, CaError, Crl, CrlError, EkRoots, Expiry, Freshness,
    VendorId, VersionRange,
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::Config;

/// What endorsement certificates are held against.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pub(super) roots: EkRoots,
    /// Whether certificates that counted before may be revoked.
    pub(super) has_crls: bool,
    /// `None` where there is no list.
    pub(super) advisories: Option<Advisories>,
}

/// What CRLs decide that have ended or are missing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum CrlPolicy {
    /// Nothing: what a CRL names is revoked, whether or not it has ended.
    #[default]
    Known,
    /// A CA whose CRLs have all ended vouches for nothing.
    Fresh,
    /// Nor does one without a CRL.
    Required,
}

/// A file that a setting of `[plugins.node-tpm]` names can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}`, named by {setting} of [plugins.node-tpm]", path.display())]
pub struct TrustError {
    /// Which setting.
    pub setting: &'static str,
    /// Which file or folder.
    pub path: PathBuf,
    /// Why not.
    pub source: TrustProblem,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustProblem {
    /// A list of advisories is not what it should be.
    #[error(
        "not a list of advisories: tables [[advisory]] with id, action, manufacturer, and optionally model and firmware"
    )]
    Advisories(#[source] Box<toml::de::Error>),
    /// A certificate is no CA's.
    #[error("holds something else than CA certificates")]
    Certificate(#[from] CaError),
    /// A CRL is none that can be used.
    #[error("holds something else than whole CRLs")]
    Crl(#[from] CrlError),
    /// A folder of roots has none.
    #[error("holds no root: a CA certificate that issued itself")]
    NoRoot,
    /// Neither PEM nor DER.
    #[error("is no PEM")]
    Pem(#[from] pem::PemError),
    /// It can't be read.
    #[error("cannot be read")]
    Read(#[from] io::Error),
}

impl Trust {
    /// Reads the files that the settings name.
    pub(super) fn read(config: &Config) -> Result<Self, TrustError> {
        let expiry = if config.accept_expired_ek_certificates {
            Expiry::Ignored
        } else {
            Expiry::Enforced
        };
        let mut roots = EkRoots::new(expiry);
        roots.set_freshness(config.ek_crl_policy.into());
        if let Some(folder) = &config.ek_roots {
            add_roots(folder, &mut roots)?;
        }
        if config.vendor_roots {
            roots.add_shipped();
        }
        if let Some(folder) = &config.ek_intermediates {
            let add = |der: &[u8]| -> Result<(), TrustProblem> {
                roots.add_intermediate(CaCertificate::parse(der)?);
                Ok(())
            };
            read_folder(folder, add).map_err(|(path, source)| failed("ek_intermediates", path, source))?;
        }
        if let Some(folder) = &config.ek_crls {
            let add = |der: &[u8]| -> Result<(), TrustProblem> {
                roots.add_crl(Crl::parse(der)?);
                Ok(())
            };
            read_folder(folder, add).map_err(|(path, source)| failed("ek_crls", path, source))?;
        }
        let advisories = config
            .tpm_advisories
            .as_deref()
            .map(read_advisories)
            .transpose()?;
        Ok(Self {
            roots,
            has_crls: config.ek_crls.is_some(),
            advisories,
        })
    }
}

fn add_roots(folder: &Path, roots: &mut EkRoots) -> Result<(), TrustError> {
    let add = |der: &[u8]| -> Result<(), TrustProblem> {
        let certificate = CaCertificate::parse(der)?;
        if certificate.is_self_issued() {
            roots.add_root(certificate);
        } else {
            roots.add_intermediate(certificate);
        }
        Ok(())
    };
    read_folder(folder, add).map_err(|(path, source)| failed("ek_roots", path, source))?;
    if roots.is_empty() {
        return Err(failed("ek_roots", folder.into(), TrustProblem::NoRoot));
    }
    Ok(())
}

fn failed(setting: &'static str, path: PathBuf, source: TrustProblem) -> TrustError {
    TrustError {
        setting,
        path,
        source,
    }
}

/// Hands each DER of each file to `add`; on failure says which file it was.
fn read_folder(
    folder: &Path,
    mut add: impl FnMut(&[u8]) -> Result<(), TrustProblem>,
) -> Result<(), (PathBuf, TrustProblem)> {
    let unreadable = |error: io::Error| (folder.to_owned(), error.into());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            let added = ders(&path).and_then(|ders| ders.iter().try_for_each(|der| add(der)));
            added.map_err(|problem| (path, problem))?;
        }
    }
    Ok(())
}

/// DER begins with a SEQUENCE, which no PEM does.
fn ders(path: &Path) -> Result<Vec<Vec<u8>>, TrustProblem> {
    let content = fs::read(path)?;
    if content.first() == Some(&0x30) {
        return Ok(vec![content]);
    }
    let blocks = pem::parse_many(content)?;
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}

/// A file of advisories.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvisoryFile {
    #[serde(default)]
    advisory: Vec<AdvisoryEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvisoryEntry {
    id: String,
    #[serde(deserialize_with = "action")]
    action: Action,
    #[serde(deserialize_with = "parsed")]
    manufacturer: VendorId,
    model: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    firmware: Option<VersionRange>,
}

fn read_advisories(path: &Path) -> Result<Advisories, TrustError> {
    let read = || -> Result<AdvisoryFile, TrustProblem> {
        let text = fs::read_to_string(path)?;
        toml::from_str(&text).map_err(|error| TrustProblem::Advisories(Box::new(error)))
    };
    let file = read().map_err(|source| failed("tpm_advisories", path.into(), source))?;
    Ok(Advisories::new(
        file.advisory.into_iter().map(Into::into).collect(),
    ))
}

impl From<AdvisoryEntry> for Advisory {
    fn from(entry: AdvisoryEntry) -> Self {
        Self {
            id: entry.id,
            action: entry.action,
            manufacturer: entry.manufacturer,
            model: entry.model,
            firmware: entry.firmware,
        }
    }
}

fn action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
    match &*String::deserialize(deserializer)? {
        "deny" => Ok(Action::Deny),
        "warn" => Ok(Action::Warn),
        _ => Err(D::Error::custom("action is `deny` or `warn`")),
    }
}

fn parsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VendorId, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VersionRange>, D::Error> {
    let range = String::deserialize(deserializer)?.parse();
    range.map(Some).map_err(D::Error::custom)
}

impl From<CrlPolicy> for Freshness {
    fn from(policy: CrlPolicy) -> Self {
        match policy {
            CrlPolicy::Fresh => Self::Enforced,
            CrlPolicy::Known => Self::Ignored,
            CrlPolicy::Required => Self::Required,
        }
    }
}
