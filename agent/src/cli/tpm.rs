//! `tpm`: what the host's TPM is, without a server.

mod info;
mod log;
mod quote;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use attest::{
    HashAlg, PcrSelection, PcrSet, Reject,
    ek::{EkCertificate, EndorsementKey},
    report::{Finding, printable},
    wire::{Curve, PublicKey},
};
use clap::{Args, Subcommand};
use edge::json::pretty;
use plugin_api::TpmEk;
use plugin_catalog::TpmConfig;
use serde::Serialize;

use super::{CommandError, Output, line};
use crate::{config, host_tpm};

/// The host's TPM; no server is needed, and no running agent.
///
/// Exits with 0 if nothing was refused, with 1 if something was, and with 2 if TPM, arguments or files can't be used. Each
/// finding has the number of its check, which SECURITY.md explains, and a code that never changes. What is noted, a policy
/// may refuse.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints the endorsement keys by which a server can enrol this host.
    ///
    /// With `--output json` it is what `plastron-server host import` takes:
    ///
    ///   plastron-agent tpm ek --output json | ssh SERVER plastron-server host import --file -
    Ek(Device),
    Info(info::Info),
    Log(log::Log),
    Quote(quote::Quote),
}

/// Which TPM.
#[derive(Args, Debug)]
pub(super) struct Device {
    /// The agent's configuration, for how to reach the TPM; if there is none, the defaults count.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The TPM, as libtss2 addresses it, over the configuration. Example: device:/dev/tpmrm0
    #[arg(long, value_name = "TCTI")]
    device: Option<String>,
    /// The firmware's event log, over the configuration.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// A host as `plastron-server host import` takes it.
#[derive(Serialize)]
struct NewHost {
    name: String,
    endorsement_keys: Vec<NewKey>,
}

#[derive(Serialize)]
struct NewKey {
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
}

#[derive(Serialize)]
struct Key {
    hash: String,
    kind: &'static str,
    name: String,
    certificate: Option<Certificate>,
}

#[derive(Serialize)]
struct Certificate {
    issuer: String,
    serial_number: String,
    manufacturer: String,
    model: String,
    version: String,
}

impl Command {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Ek(device) => device.print_keys(),
            Self::Info(info) => info.execute(),
            Self::Log(log) => log.execute(),
            Self::Quote(quote) => quote.execute(),
        }
    }
}

impl Device {
    fn settings(&self) -> Result<TpmConfig, CommandError> {
        let mut settings = TpmConfig::default();
        let is_there = self.config.exists() || self.config != Path::new(config::DEFAULT_PATH);
        if is_there {
            let options = edge::config::Options::default();
            let config: config::Config = edge::config::load(&self.config, &options)?;
            settings = config.plugins.node_tpm.unwrap_or_default();
        }
        if let Some(device) = &self.device {
            settings.device.clone_from(device);
        }
        if let Some(path) = &self.event_log {
            settings.event_log_path.clone_from(path);
        }
        // Looking must not change the TPM.
        settings.persist_endorsement_key = false;
        Ok(settings)
    }

    fn print_keys(&self) -> Result<(), CommandError> {
        let tpm = tpm::open(host_tpm::settings(&self.settings()?))?;
        let keys = tpm.endorsement_keys()?;
        let unusable = |reject| {
            CommandError::Input(format!(
                "the TPM has an endorsement key that can't be used: {reject}"
            ))
        };
        let keys: Result<Vec<_>, _> = keys.iter().map(Key::of).collect();
        let keys = keys.map_err(unusable)?;
        match self.output {
            Output::Json => {
                let host = NewHost {
                    name: host_name(),
                    endorsement_keys: keys.into_iter().map(NewKey::from).collect(),
                };
                line(&pretty(&host)?);
            }
            Output::Pretty => keys.iter().for_each(|key| line(&format!("{}\n", key.facts()))),
        }
        Ok(())
    }

    /// Prints a report, and fails if something was refused.
    fn print(&self, report: &(impl Serialize + Display), findings: &[Finding]) -> Result<(), CommandError> {
        match self.output {
            Output::Json => line(&pretty(report)?),
            Output::Pretty => line(&report.to_string()),
        }
        if Finding::any_refused(findings) {
            Err(CommandError::EvidenceRefused)
        } else {
            Ok(())
        }
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// All PCRs of all banks; those that are not active are left out when they are read.
fn all_pcrs() -> Result<PcrSelection, CommandError> {
    let all: PcrSet = (0..PcrSet::COUNT).collect();
    let banks = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];
    PcrSelection::new(banks.map(|alg| (alg, all)).into())
        .map_err(|error| CommandError::Input(error.to_string()))
}

impl Key {
    fn of(key: &TpmEk) -> Result<Self, Reject> {
        let parsed = EndorsementKey::parse(&key.public)?;
        let certificate = key.certificate.as_deref().map(EkCertificate::parse);
        Ok(Self {
            hash: parsed.hash().to_string(),
            kind: kind(&parsed.public().key),
            name: parsed.name().to_string(),
            certificate: certificate
                .and_then(Result::ok)
                .map(|certificate| Certificate::of(&certificate)),
        })
    }

    fn facts(&self) -> String {
        let mut text = format!("EK hash       : {}\nKey           : {}\n", self.hash, self.kind);
        match &self.certificate {
            Some(certificate) => text.push_str(&format!(
                "Issuer        : {}\nSerial number : {}\nTPM           : {} {} {}",
                printable(certificate.issuer.as_bytes()),
                certificate.serial_number,
                printable(certificate.manufacturer.as_bytes()),
                printable(certificate.model.as_bytes()),
                printable(certificate.version.as_bytes())
            )),
            None => text.push_str("Certificate   : none that can be read; enrol the host by the hash"),
        }
        text
    }
}

impl From<Key> for NewKey {
    fn from(key: Key) -> Self {
        let certificate = key
            .certificate
            .map(|certificate| (certificate.issuer, certificate.serial_number));
        let (issuer, serial_number) = certificate.unzip();
        Self {
            hash: key.hash,
            issuer,
            serial_number,
        }
    }
}

impl Certificate {
    fn of(certificate: &EkCertificate) -> Self {
        let (id, attributes) = (certificate.id(), certificate.attributes());
        Self {
            issuer: id.issuer().into(),
            serial_number: hex::encode(id.serial()),
            manufacturer: attributes.manufacturer.clone(),
            model: attributes.model.clone(),
            version: attributes.version.clone(),
        }
    }
}

fn kind(key: &PublicKey) -> &'static str {
    match key {
        PublicKey::Ecc(key) => match key.curve {
            Curve::P256 => "ECC P-256",
            Curve::P384 => "ECC P-384",
            Curve::P521 => "ECC P-521",
        },
        PublicKey::Rsa(_) => "RSA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_can_not_command_a_terminal() {
        let evil = || "\u{1b}[2J\u{9b}1A\r".to_owned();
        let key = Key {
            hash: String::new(),
            kind: "RSA",
            name: String::new(),
            certificate: Some(Certificate {
                issuer: evil(),
                serial_number: String::new(),
                manufacturer: evil(),
                model: evil(),
                version: evil(),
            }),
        };
        let facts = key.facts();
        assert!(
            facts.lines().flat_map(str::chars).all(|char| !char.is_control()),
            "{facts}"
        );
    }
}
