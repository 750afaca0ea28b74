//! `[plugins.node-tpm]` of the agent.

use std::path::PathBuf;

use serde::Deserialize;

use super::SvidKey;

/// `[plugins.node-tpm]` of the agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The TPM, as libtss2 addresses it.
    pub device: String,
    /// File with the password of the TPM's endorsement hierarchy, where one is set.
    pub endorsement_auth: Option<PathBuf>,
    /// File with the password of the TPM's owner hierarchy, where one is set.
    pub owner_auth: Option<PathBuf>,
    /// First of the eight persistent handles that may hold attestation keys, one for each trust domain.
    pub attestation_key_handle: u32,
    /// Whether an endorsement key that takes seconds to generate is made persistent.
    pub persist_endorsement_key: bool,
    /// The firmware's event log.
    pub event_log_path: PathBuf,
    /// The kernel's measurement list, in binary; read where the server asks for it.
    pub ima_log_path: PathBuf,
    /// The kernel's command line, which is sent with the event log so that the server can show it; nowhere: it is not sent.
    pub command_line_path: PathBuf,
    /// Where the key of the host's SVID is.
    pub svid_key: SvidKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: "device:/dev/tpmrm0".into(),
            endorsement_auth: None,
            owner_auth: None,
            attestation_key_handle: 0x8101_A000,
            persist_endorsement_key: true,
            event_log_path: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            ima_log_path: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
            command_line_path: "/proc/cmdline".into(),
            svid_key: SvidKey::default(),
        }
    }
}
