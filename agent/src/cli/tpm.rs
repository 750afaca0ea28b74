//! `tpm`: what the host's TPM is, without a server.

mod log;
mod quote;

use std::path::{Path, PathBuf};

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues,
    ek::{EkCertificate, EndorsementKey},
    event_log::EventLog,
    report::printable,
    wire::{Curve, PublicKey},
};
use clap::{Args, Subcommand};
use edge::json::pretty;
use plugin_api::{TpmDevice, TpmEk};
use plugin_catalog::TpmConfig;
use serde::Serialize;

use super::{CommandError, Output, line};
use crate::{config, host_tpm};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints the endorsement keys by which a server can enrol this host.
    ///
    /// With `--output json` it is what `plastron-server host import` takes:
    ///
    ///   plastron-agent tpm ek --output json | ssh SERVER plastron-server host import --file -
    Ek(Device),
    /// Prints what the TPM is, its PCRs, and whether the firmware's event log explains them.
    Info(Device),
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
struct Report {
    device: String,
    endorsement_keys: Vec<Key>,
    pcrs: Vec<Pcr>,
    event_log: Log,
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

#[derive(Serialize)]
struct Pcr {
    bank: String,
    index: u8,
    value: String,
    /// What the log says it is; absent where that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_log_value: Option<String>,
}

#[derive(Serialize)]
struct Log {
    path: PathBuf,
    bytes: usize,
    events: usize,
    sha256: String,
    /// Why it can't be used; empty if it can.
    problem: String,
}

impl Command {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Ek(device) => device.print_keys(),
            Self::Info(device) => device.print_report(),
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
        let keys = keys.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
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

    fn print_report(&self) -> Result<(), CommandError> {
        let settings = self.settings()?;
        let mut tpm = tpm::open(host_tpm::settings(&settings))?;
        let keys = tpm.endorsement_keys()?;
        let values = tpm.read_pcrs(&all_pcrs()?)?;
        let (event_log, replayed) = Log::read(settings.event_log_path);
        let report = Report {
            device: settings.device,
            endorsement_keys: keys.iter().map(Key::of).collect::<Result<_, _>>()?,
            pcrs: pcrs(&values, &replayed),
            event_log,
        };
        match self.output {
            Output::Json => line(&pretty(&report)?),
            Output::Pretty => line(&report.text()),
        }
        Ok(())
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn all_pcrs() -> Result<PcrSelection, CommandError> {
    let all: PcrSet = (0..PcrSet::COUNT).collect();
    PcrSelection::new(vec![(HashAlg::Sha256, all), (HashAlg::Sha384, all)])
        .map_err(|error| CommandError::Input(error.to_string()))
}

impl Key {
    fn of(key: &TpmEk) -> Result<Self, CommandError> {
        let unusable = |error| {
            CommandError::Input(format!(
                "the TPM has an endorsement key that can't be used: {error}"
            ))
        };
        let parsed = EndorsementKey::parse(&key.public).map_err(unusable)?;
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

/// The PCRs that were ever extended, or should have been, each compared with the log.
fn pcrs(values: &PcrValues, replayed: &PcrValues) -> Vec<Pcr> {
    let is_used = |value: &attest::Digest| !value.is_filled(0) && !value.is_filled(0xff);
    let compared = values.iter().map(|(alg, index, value)| {
        let logged = replayed.get(alg, index).filter(|logged| *logged != value);
        (alg, index, value, logged)
    });
    compared
        .filter(|(_, _, value, logged)| is_used(value) || logged.is_some())
        .map(|(alg, index, value, logged)| Pcr {
            bank: alg.to_string(),
            index,
            value: value.to_string(),
            event_log_value: logged.map(ToString::to_string),
        })
        .collect()
}

impl Log {
    fn read(path: PathBuf) -> (Self, PcrValues) {
        let mut log = Self {
            path,
            bytes: 0,
            events: 0,
            sha256: String::new(),
            problem: String::new(),
        };
        let mut replayed = PcrValues::default();
        match std::fs::read(&log.path) {
            Err(error) => log.problem = error.to_string(),
            Ok(content) => log.describe(&content, &mut replayed),
        }
        (log, replayed)
    }

    fn describe(&mut self, content: &[u8], replayed: &mut PcrValues) {
        self.bytes = content.len();
        self.sha256 = HashAlg::Sha256.digest(&[content]).to_string();
        match EventLog::parse(content) {
            Err(reject) => self.problem = format!("{reject} ({})", reject.code()),
            Ok(parsed) => {
                self.events = parsed.events().count();
                for values in parsed.banks().filter_map(|alg| parsed.replay(alg).ok()) {
                    values
                        .iter()
                        .for_each(|(alg, index, value)| replayed.set(alg, index, *value));
                }
            }
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("TPM           : {}\n\n", self.device);
        for key in &self.endorsement_keys {
            text.push_str(&format!("{}\n\n", key.facts()));
        }
        text.push_str(&format!(
            "Event log     : {} ({} events, {} bytes)\n",
            self.event_log.path.display(),
            self.event_log.events,
            self.event_log.bytes
        ));
        if !self.event_log.problem.is_empty() {
            text.push_str(&format!(
                "                NOT USABLE: {}\n",
                self.event_log.problem
            ));
        }
        for pcr in &self.pcrs {
            text.push_str(&format!("{:6} PCR {:2} : {}\n", pcr.bank, pcr.index, pcr.value));
            if let Some(logged) = &pcr.event_log_value {
                text.push_str(&format!("  the event log says {logged}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::Digest;

    #[test]
    fn pcrs_that_the_log_says_were_extended_are_shown() {
        let (mut values, mut replayed) = (PcrValues::default(), PcrValues::default());
        let [zeros, ones, used] = [0, 0xff, 7].map(|byte| Digest::filled(byte, HashAlg::Sha256));
        for (index, value, logged) in [
            (0, zeros, Some(used)),
            (1, zeros, Some(zeros)),
            (2, zeros, None),
            (3, used, Some(used)),
            (17, ones, None),
            (18, ones, Some(used)),
        ] {
            values.set(HashAlg::Sha256, index, value);
            if let Some(logged) = logged {
                replayed.set(HashAlg::Sha256, index, logged);
            }
        }
        let shown = pcrs(&values, &replayed);
        let shown: Vec<_> = shown
            .iter()
            .map(|pcr| (pcr.index, pcr.event_log_value.is_some()))
            .collect();
        assert_eq!(shown, [(0, true), (3, false), (18, true)]);
    }

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
