//! `[plugins.node-tpm]` of the agent.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

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
    /// How long the TPM may take for anything but the generation of a key. One that takes longer is asked for nothing
    /// until it answers.
    #[serde(deserialize_with = "answer_within")]
    pub answer_within: Duration,
}

/// Shortest and longest that the TPM may take for an answer.
const ANSWER_WITHIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

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
            answer_within: Duration::from_secs(20),
        }
    }
}

fn answer_within<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let within: Duration = humantime_serde::deserialize(from)?;
    let [least, most] = ANSWER_WITHIN;
    if (least..=most).contains(&within) {
        Ok(within)
    } else {
        Err(D::Error::custom("answer_within must be from 1s to 10m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tpm_may_take_a_second_to_ten_minutes() {
        let check = |text: &str, expected: Option<u64>| {
            let config = toml::from_str::<Config>(text).ok();
            assert_eq!(
                config.map(|config| config.answer_within.as_secs()),
                expected,
                "{text}"
            );
        };
        check("", Some(20));
        check("answer_within = \"1s\"", Some(1));
        check("answer_within = \"10m\"", Some(600));
        check("answer_within = \"999ms\"", None);
        check("answer_within = \"601s\"", None);
        check("answer_within = 20", None);
    }
}
