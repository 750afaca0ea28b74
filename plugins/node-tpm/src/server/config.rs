//! `[plugins.node-tpm]` of the server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use attest::{
    PcrSelection,
    ek::{CaCertificate, CaError, EkRoots, Expiry},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Rules, TpmAttestor};

/// `[plugins.node-tpm]` of the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of CA certificates of TPM vendors, PEM or DER: those that issued themselves are roots, others may stand
    /// between. Without it, hosts are known by the hash of their endorsement key alone.
    pub ek_roots: Option<PathBuf>,
    /// Whether certificates of vendors are good after their end: some CAs ended before the machines did.
    pub accept_expired_ek_certificates: bool,
    /// Whether a host must send its firmware's event log.
    pub event_log: EventLogs,
    /// The PCRs to quote, such as `sha256:0-9,14`.
    #[serde(deserialize_with = "pcrs")]
    pub pcrs: PcrSelection,
    /// Whether a host whose SHA-384 bank is active quotes the same PCRs of that, too. A bank that was quoted once has
    /// to be quoted from then on; a host whose bank was switched off on purpose is removed, and enrolled again.
    pub all_banks: bool,
}

/// Whether a host must send its firmware's event log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum EventLogs {
    /// One that is sent must explain the PCRs; a host without one attests by its keys alone.
    Optional,
    /// PCRs that no log explains are refused.
    #[default]
    Required,
}

/// The plugin can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is no CA certificate.
    #[error("`{}` in ek_roots of [plugins.node-tpm] holds something else than CA certificates", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CaError,
    },
    /// A file is neither PEM nor DER.
    #[error("`{}` in ek_roots of [plugins.node-tpm] is no PEM", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::PemError,
    },
    /// A file or the folder can't be read.
    #[error("cannot read `{}`, named by ek_roots of [plugins.node-tpm]", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No root came out of it.
    #[error("`{}`, named by ek_roots of [plugins.node-tpm], holds no root: a CA certificate that issued itself", path.display())]
    NoRoot {
        /// The folder.
        path: PathBuf,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ek_roots: None,
            accept_expired_ek_certificates: false,
            event_log: EventLogs::default(),
            pcrs: PcrSelection::standard(),
            all_banks: true,
        }
    }
}

fn pcrs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PcrSelection, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

impl TpmAttestor {
    /// Reads the roots.
    ///
    /// # Errors
    ///
    /// A file can't be read or is no certificate of a CA.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let expiry = if config.accept_expired_ek_certificates {
            Expiry::Ignored
        } else {
            Expiry::Enforced
        };
        let mut roots = EkRoots::new(expiry);
        if let Some(folder) = &config.ek_roots {
            read_folder(folder, &mut roots)?;
        }
        Ok(Self(Arc::new(Rules {
            roots,
            pcrs: config.pcrs.clone(),
            all_banks: config.all_banks,
            event_logs: config.event_log,
        })))
    }
}

fn read_folder(folder: &Path, roots: &mut EkRoots) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Read {
        path: folder.into(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            read_file(&path, roots)?;
        }
    }
    if roots.is_empty() {
        return Err(ConfigError::NoRoot { path: folder.into() });
    }
    Ok(())
}

fn read_file(path: &Path, roots: &mut EkRoots) -> Result<(), ConfigError> {
    let content = fs::read(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    for der in certificates(path, content)? {
        let certificate = CaCertificate::parse(&der).map_err(|source| ConfigError::Certificate {
            path: path.into(),
            source,
        })?;
        if certificate.is_self_issued() {
            roots.add_root(certificate);
        } else {
            roots.add_intermediate(certificate);
        }
    }
    Ok(())
}

/// DER begins with a SEQUENCE, which no PEM does.
fn certificates(path: &Path, content: Vec<u8>) -> Result<Vec<Vec<u8>>, ConfigError> {
    if content.first() == Some(&0x30) {
        return Ok(vec![content]);
    }
    let blocks = pem::parse_many(content).map_err(|source| ConfigError::Pem {
        path: path.into(),
        source,
    })?;
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}
