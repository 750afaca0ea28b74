//! Firmware: that of the machine by what PCR 0 holds, that of the TPM by its number.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Difference, DifferenceKind, Differences, Evidence, Reference, difference::one_of};

/// A release of the machine's firmware.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What an operator calls it.
    pub name: String,
    /// What it leaves in PCR 0; it may depend on the machine's equipment.
    pub pcr0: BTreeSet<Reference>,
}

/// Which firmware a TPM may have: its vendor's number, in hex as `plastron-agent tpm info` prints it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TpmRule {
    /// The oldest.
    pub at_least: Option<Version>,
    /// The newest.
    pub at_most: Option<Version>,
}

/// A number in hex, `0007002a00000000`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Version(pub u64);

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let version = u64::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        version.map(Self).ok_or("a version is up to 16 hex digits")
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The release that the host has, if it is one of these.
pub(super) fn release<'a>(releases: &'a [Release], evidence: &Evidence<'_>) -> Option<&'a Release> {
    releases.iter().find(|release| {
        let of_bank = |alg| {
            let value = evidence.values().get(alg, 0)?;
            Reference::new(alg, value.as_bytes())
        };
        evidence
            .algs()
            .filter_map(of_bank)
            .any(|value| release.pcr0.contains(&value))
    })
}

pub(super) fn check(releases: &[Release], evidence: &Evidence<'_>, differences: &mut Differences) {
    let mut values = evidence.algs().filter_map(|alg| evidence.values().get(alg, 0));
    let Some(value) = values.next() else {
        return differences.not_proven(0);
    };
    if release(releases, evidence).is_none() {
        differences.push(Difference {
            kind: DifferenceKind::Firmware,
            subject: "firmware".into(),
            expected: one_of(releases.iter().map(|release| format!("`{}`", release.name))),
            found: format!("PCR 0 of {value}"),
            event: None,
        });
    }
}

impl TpmRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, differences: &mut Differences) {
        let found = evidence.tpm_firmware().map(Version);
        let is_in_range = |found: &Version| {
            self.at_least.is_none_or(|least| *found >= least)
                && self.at_most.is_none_or(|most| *found <= most)
        };
        if found.as_ref().is_some_and(is_in_range) {
            return;
        }
        let limit = |word: &str, limit: Option<Version>| limit.map(|limit| format!("{word} {limit}"));
        let limits = [limit("at least", self.at_least), limit("at most", self.at_most)];
        differences.push(Difference {
            kind: DifferenceKind::TpmFirmware,
            subject: "firmware of the TPM".into(),
            expected: super::difference::all_of(limits.into_iter().flatten()),
            found: found.map_or_else(|| "none that is known".into(), |found| found.to_string()),
            event: None,
        });
    }
}
