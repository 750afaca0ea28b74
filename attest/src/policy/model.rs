//! What a policy consists of.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use super::{
    BootRule, CommandLineRule, ImaRule, InitrdRule, PcrRule, PolicyError, Release, SbatRule, SecureBootRule,
    TpmRule, parse::File,
};
use crate::PcrSet;

/// Reference values under a name, in one version. Rules that are left out are not asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "File")]
pub struct Policy {
    /// Its name, which all its generations share.
    pub name: PolicyName,
    /// For people: two generations are told apart by their identifiers.
    pub version: u32,
    /// For people.
    pub description: Option<String>,
    /// Secure Boot, and the keys it rests on: PCR 7.
    pub secure_boot: Option<SecureBootRule>,
    /// Revocations of boot loaders: PCR 7.
    pub sbat: Option<SbatRule>,
    /// What firmware may start: PCR 4, and PCR 11 of unified kernel images.
    pub boot: Option<BootRule>,
    /// The kernel's command line: PCR 9, 11 and 12.
    pub command_line: Option<CommandLineRule>,
    /// The initial file system: PCR 9 and 11.
    pub initrd: Option<InitrdRule>,
    /// Firmware of the machine, by PCR 0.
    pub firmware: Option<Vec<Release>>,
    /// Firmware of the TPM.
    pub tpm: Option<TpmRule>,
    /// PCRs by value.
    pub pcrs: Vec<PcrRule>,
    /// What the kernel measured: PCR 10.
    pub ima: Option<ImaRule>,
}

impl Policy {
    /// Longest text in bytes: lists of files for IMA are long.
    pub const MAX_LEN: usize = 4 << 20;
    /// The version of the text form.
    pub const FORMAT: u32 = 1;

    /// The PCRs that its rules need in a quote. PCR 10 is the measurement list's, which is asked for apart.
    #[must_use]
    pub fn needed_pcrs(&self) -> PcrSet {
        let pinned = self.pcrs.iter().map(|rule| rule.index);
        let of = |is_asked: bool, pcrs: &'static [u8]| if is_asked { pcrs } else { &[] };
        let has_uki = self.boot.as_ref().is_some_and(|boot| !boot.uki.is_empty());
        [
            of(self.secure_boot.is_some(), &[7]),
            of(self.sbat.is_some(), &[7]),
            of(self.boot.is_some(), &[4, 5]),
            of(has_uki, &[11]),
            of(self.command_line.is_some(), &[9, 11, 12]),
            of(self.initrd.is_some(), &[9, 11]),
            of(self.firmware.is_some(), &[0]),
            of(self.ima.is_some(), &[10]),
        ]
        .into_iter()
        .flatten()
        .copied()
        .chain(pinned)
        .collect()
    }
}

/// The name of a policy: lower-case letters, digits, `-`, `_` and `.`, 64 at most. It becomes a part of a selector.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct PolicyName(Box<str>);

impl PolicyName {
    /// Longest name in bytes.
    pub const MAX_LEN: usize = 64;

    /// As a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PolicyName {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let is_known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_known) {
            Ok(Self(text.into()))
        } else {
            Err(PolicyError::Name)
        }
    }
}

impl TryFrom<String> for PolicyName {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
