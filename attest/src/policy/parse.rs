//! The text form of a policy: TOML, completely understood or refused.

use serde::Deserialize;

use super::{
    BootRule, CommandLineRule, ImaRule, InitrdRule, PcrRule, Policy, PolicyName, Release, SbatRule,
    SecureBootRule, TpmRule,
};
use crate::{HashAlg, PcrSet};

/// A text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A unified kernel image's command line is not the one that its sections have.
    #[error(
        "`command_line` of unified kernel image `{0}` does not have the digest of its section `.cmdline`"
    )]
    CommandLine(String),
    /// It asks for nothing, so every host would meet it.
    #[error("policy has no rule: it would accept every host")]
    Empty,
    /// Written for a newer server.
    #[error("policy has format {0}, this server reads {format}", format = Policy::FORMAT)]
    Format(u32),
    /// Which keys are meant is said twice.
    #[error("`{0}`: `exactly` leaves nothing to `at_least` and `at_most`")]
    Keys(&'static str),
    /// No name.
    #[error("a policy's name is 1 to {max} of a-z, 0-9, `-`, `_`, `.`", max = PolicyName::MAX_LEN)]
    Name,
    /// There is no such PCR, or it has two rules.
    #[error("PCR {0} has two rules, or there is none of that number")]
    Pcr(u8),
    /// Not TOML, or a key or value is wrong.
    #[error("policy is not understood")]
    Syntax(#[from] toml::de::Error),
    /// Longer than any policy.
    #[error("policy is longer than {max} bytes", max = Policy::MAX_LEN)]
    TooLong,
    /// No text.
    #[error("policy is not UTF-8")]
    Utf8,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    format: u32,
    name: PolicyName,
    version: u32,
    description: Option<String>,
    secure_boot: Option<SecureBootRule>,
    sbat: Option<SbatRule>,
    boot: Option<BootRule>,
    command_line: Option<CommandLineRule>,
    initrd: Option<InitrdRule>,
    firmware: Option<Vec<Release>>,
    tpm: Option<TpmRule>,
    #[serde(default)]
    pcr: Vec<PcrRule>,
    ima: Option<ImaRule>,
}

/// What is read first: a newer format may have other keys.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

impl Policy {
    /// Parses a policy.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] says why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(PolicyError::TooLong);
        }
        let text = str::from_utf8(bytes).map_err(|_| PolicyError::Utf8)?;
        let version: Version = toml::from_str(text)?;
        check_format(version.format)?;
        let file: File = toml::from_str(text)?;
        file.try_into()
    }
}

impl TryFrom<File> for Policy {
    type Error = PolicyError;

    fn try_from(file: File) -> Result<Self, PolicyError> {
        check_format(file.format)?;
        let policy = Self {
            name: file.name,
            version: file.version,
            description: file.description,
            secure_boot: file.secure_boot,
            sbat: file.sbat,
            boot: file.boot,
            command_line: file.command_line,
            initrd: file.initrd,
            firmware: file.firmware,
            tpm: file.tpm,
            pcrs: file.pcr,
            ima: file.ima,
        };
        policy.check()?;
        Ok(policy)
    }
}

const fn check_format(format: u32) -> Result<(), PolicyError> {
    if format == Policy::FORMAT {
        Ok(())
    } else {
        Err(PolicyError::Format(format))
    }
}

impl Policy {
    /// Whether it asks for anything.
    pub(super) const fn has_rule(&self) -> bool {
        self.secure_boot.is_some()
            || self.sbat.is_some()
            || self.boot.is_some()
            || self.command_line.is_some()
            || self.initrd.is_some()
            || self.firmware.is_some()
            || self.tpm.is_some()
            || self.ima.is_some()
            || !self.pcrs.is_empty()
    }

    fn check(&self) -> Result<(), PolicyError> {
        if !self.has_rule() {
            return Err(PolicyError::Empty);
        }
        let keys = self.secure_boot.iter().flat_map(SecureBootRule::keys);
        if let Some((name, _)) = keys.into_iter().find(|(_, rule)| rule.is_contradictory()) {
            return Err(PolicyError::Keys(name));
        }
        let ukis = || self.boot.iter().flat_map(|boot| &boot.uki);
        if let Some(uki) = ukis().find(|uki| !uki.has_its_command_line()) {
            return Err(PolicyError::CommandLine(uki.name.clone()));
        }
        self.check_pcrs()
    }

    fn check_pcrs(&self) -> Result<(), PolicyError> {
        let mut seen = Vec::new();
        for rule in &self.pcrs {
            if rule.index >= PcrSet::COUNT || seen.contains(&rule.index) {
                return Err(PolicyError::Pcr(rule.index));
            }
            seen.push(rule.index);
        }
        Ok(())
    }
}

/// The banks that reference values are of, strongest first.
pub(super) const BANKS: [HashAlg; 3] = [HashAlg::Sha512, HashAlg::Sha384, HashAlg::Sha256];
