//! `verify`: judges TPM evidence from files, without a server. All that is decided here is decided in `attest`.

mod ek;
mod ek_file;
mod folder;
mod platform;

#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use attest::{
    PcrSelection, PcrValues,
    report::{Beside, Captured, Finding, ImaReport, LogReport, QuoteReport},
};
use clap::{Args, Subcommand};
use edge::json::pretty;
use serde::Serialize;

use super::{
    CommandError,
    output::{self, Output},
};

pub(super) use folder::platform_roots;

/// Judges TPM evidence in files: no server is asked, no TPM and no network.
///
/// Each finding has the number of its check, which SECURITY.md explains, and a code that never changes. Exits with 0 if
/// nothing was refused, with 1 if something was, and with 2 if arguments or files can't be used. What is noted, a policy
/// may refuse.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    EkCertificate(ek::EkCertificate),
    EventLog(EventLog),
    ImaLog(ImaLog),
    PlatformCertificate(platform::PlatformCertificate),
    Quote(Quote),
}

/// Reads a firmware's event log, replays it into the PCRs of every bank, and says what it proves of Secure Boot and of
/// what was started.
///
///   plastron-server verify event-log /sys/kernel/security/tpm0/binary_bios_measurements
///   tpm2_pcrread > pcrs.yaml; plastron-server verify event-log log.bin --pcrs pcrs.yaml
#[derive(Args, Debug)]
pub(super) struct EventLog {
    /// The log: crypto-agile or of TPM 1.2, from firmware, Linux or Windows (WBCL).
    #[arg(value_name = "FILE")]
    log: PathBuf,
    /// What the PCRs hold: as `tpm2_pcrread` prints it, as `tpm2_quote -o` writes it, as JSON, or lines such as
    /// `sha256:0=9a3c…`.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// Reads a kernel's measurement list, and says what PCRs prove of it.
///
///   plastron-server verify ima-log /sys/kernel/security/ima/binary_runtime_measurements --pcrs pcrs.yaml
#[derive(Args, Debug)]
pub(super) struct ImaLog {
    /// The list, binary or ASCII.
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// What the PCRs hold, read before the list was: PCR 10, and 0 to 9 for the digest that the list begins with.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// Verifies a quote: who signed it, about which nonce, over which PCRs, and whether an event log explains them, and a
/// kernel's measurement list.
///
///   tpm2_quote -c ak.ctx -l sha256:0-9 -q 00aa11 -m quote.bin -s quote.sig
///   plastron-server verify quote --ak ak.pub --quote quote.bin --signature quote.sig --nonce 00aa11 --event-log log.bin
#[derive(Args, Debug)]
pub(super) struct Quote {
    /// The attestation key: TPM2B_PUBLIC or TPMT_PUBLIC, or the key alone in PEM or DER, whose attributes can't be
    /// checked then.
    #[arg(long, value_name = "FILE")]
    ak: PathBuf,
    /// What was signed: TPMS_ATTEST, with or without its size.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The signature: TPMT_SIGNATURE, or plain as `tpm2_quote -f plain` writes it.
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// The nonce (qualifying data), in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    nonce: Nonce,
    /// The event log that is to explain the PCRs.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// The kernel's measurement list, binary or ASCII, that is to explain PCR 10.
    #[arg(long, value_name = "FILE")]
    ima_log: Option<PathBuf>,
    /// What the PCRs held, for PCRs that no event log explains, and to name those that it does not: as `tpm2_quote -o`
    /// writes it, also with `-F values`, or as text, as `tpm2_pcrread` prints it.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// How to print.
#[derive(Args, Debug)]
struct Form {
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// Bytes that were written in hexadecimal.
#[derive(Clone, Debug)]
struct Nonce(Vec<u8>);

/// Longest file that is read: no evidence is as long.
const MAX_FILE: u64 = 64 << 20;

fn hexadecimal(text: &str) -> Result<Nonce, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map(Nonce).map_err(|error| error.to_string())
}

impl Command {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::EkCertificate(command) => command.execute(),
            Self::EventLog(command) => command.execute(),
            Self::ImaLog(command) => command.execute(),
            Self::PlatformCertificate(command) => command.execute(),
            Self::Quote(command) => command.execute(),
        }
    }
}

impl EventLog {
    fn execute(&self) -> Result<(), CommandError> {
        let report = self.report()?;
        self.form.print(&report, &report.findings)
    }

    fn report(&self) -> Result<LogReport, CommandError> {
        let pcrs = self.pcrs.as_deref().map(read_pcrs).transpose()?;
        Ok(LogReport::of(&read(&self.log)?, pcrs.as_ref()))
    }
}

impl ImaLog {
    fn execute(&self) -> Result<(), CommandError> {
        let report = self.report()?;
        self.form.print(&report, &report.findings)
    }

    fn report(&self) -> Result<ImaReport, CommandError> {
        let pcrs = self.pcrs.as_deref().map(read_pcrs).transpose()?;
        Ok(ImaReport::of(&read(&self.list)?, pcrs.as_ref()))
    }
}

impl Quote {
    fn execute(&self) -> Result<(), CommandError> {
        let report = self.report()?;
        self.form.print(&report, &report.findings)
    }

    fn report(&self) -> Result<QuoteReport, CommandError> {
        let log = self.event_log.as_deref().map(read).transpose()?;
        let list = self.ima_log.as_deref().map(read).transpose()?;
        let captured = Captured {
            ak: &der(&read(&self.ak)?),
            quote: &read(&self.quote)?,
            signature: &read(&self.signature)?,
            nonce: &self.nonce.0,
        };
        let selection = captured.claimed_selection();
        let read_pcrs = |path: &Path| read_pcrs_of(path, selection.as_ref());
        let pcrs = self.pcrs.as_deref().map(read_pcrs).transpose()?;
        let beside = Beside {
            pcrs: pcrs.as_ref(),
            event_log: log.as_deref(),
            ima_log: list.as_deref(),
        };
        Ok(QuoteReport::of(&captured, &beside))
    }
}

impl Form {
    /// Prints a report, and fails if something was refused.
    fn print(&self, report: &(impl Serialize + Display), findings: &[Finding]) -> Result<(), CommandError> {
        match self.output {
            Output::Json => output::line(&pretty(report)?),
            Output::Pretty => output::line(&report.to_string()),
        }
        if Finding::any_refused(findings) {
            Err(CommandError::EvidenceRefused)
        } else {
            Ok(())
        }
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Reads a file; those of the kernel don't tell how long they are.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    use std::io::Read;
    let unusable = |source| CommandError::Evidence {
        path: path.into(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unusable)?;
    let len = file
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unusable)?;
    if len as u64 > MAX_FILE {
        return Err(unusable(std::io::Error::other("it is longer than 64 MiB")));
    }
    Ok(bytes)
}

pub(super) fn read_pcrs(path: &Path) -> Result<PcrValues, CommandError> {
    read_pcrs_of(path, None)
}

/// The same, where a quote says which PCRs values alone are of.
fn read_pcrs_of(path: &Path, selection: Option<&PcrSelection>) -> Result<PcrValues, CommandError> {
    PcrValues::from_file(&read(path)?, selection).map_err(|error| CommandError::Evidence {
        path: path.into(),
        source: std::io::Error::other(error),
    })
}

/// What is in a PEM, or the bytes as they are.
pub(super) fn der(bytes: &[u8]) -> Vec<u8> {
    pem::parse(bytes).map_or_else(|_| bytes.to_vec(), pem::Pem::into_contents)
}
