//! `[plugins.node-tpm]` of the server.

use std::{path::PathBuf, sync::Arc};

use attest::PcrSelection;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    KernelLists, Rules, TpmAttestor,
    trust::{CrlPolicy, Trust, TrustError},
};

/// `[plugins.node-tpm]` of the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the roots of TPM vendors that come with the server count, each for the TPMs of its vendor.
    pub vendor_roots: bool,
    /// Folder of CA certificates that count for the TPMs of all vendors, PEM or DER: those that issued themselves are
    /// roots, others may stand between.
    pub ek_roots: Option<PathBuf>,
    /// Folder of CA certificates that may stand between a TPM's and a root, PEM or DER: none is trusted by itself.
    pub ek_intermediates: Option<PathBuf>,
    /// Folder of CRLs of vendors, PEM or DER.
    pub ek_crls: Option<PathBuf>,
    /// What CRLs decide that have ended or are missing.
    pub ek_crl_policy: CrlPolicy,
    /// File of advisories: which TPMs have a published flaw.
    pub tpm_advisories: Option<PathBuf>,
    /// Whether a host may suspend and resume its TPM: what wakes it might put PCRs back as it likes (CVE-2018-6622).
    pub accept_suspend: bool,
    /// Whether certificates of vendors are good after their end: some CAs ended before the machines did.
    pub accept_expired_ek_certificates: bool,
    /// Whether a host must send its firmware's event log.
    pub event_log: EventLogs,
    /// Whether a host must show what its kernel measured (IMA): PCR 10 is quoted as well, and the kernel's list has to
    /// explain it, on top of the firmware's log. The list names every file that was read, as the kernel's policy says.
    pub ima: KernelLists,
    /// Whether a host gets an SVID only for a key that is in its TPM.
    pub require_tpm_svid_key: bool,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            vendor_roots: true,
            ek_roots: None,
            ek_intermediates: None,
            ek_crls: None,
            ek_crl_policy: CrlPolicy::default(),
            tpm_advisories: None,
            accept_suspend: false,
            accept_expired_ek_certificates: false,
            event_log: EventLogs::default(),
            ima: KernelLists::default(),
            require_tpm_svid_key: false,
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
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// One of them can't be read, or is not what it should be.
    pub fn new(config: &Config) -> Result<Self, TrustError> {
        Ok(Self(Arc::new(Rules {
            trust: Trust::read(config)?,
            pcrs: config.pcrs.clone(),
            all_banks: config.all_banks,
            event_logs: config.event_log,
            kernel_lists: config.ima,
            accept_suspend: config.accept_suspend,
            require_tpm_svid_key: config.require_tpm_svid_key,
        })))
    }
}
