//! `verify platform-certificate`.

use std::{fmt, path::PathBuf};

use attest::{
    Reject,
    ek::{EkCertificate, Expiry, PlatformCertificate as Certificate, PlatformHolder},
    report::{Finding, printable},
};
use clap::Args;
use serde::Serialize;

use super::{CommandError, Form, der, folder, now, read};

/// Says which TPM the maker of a machine put into it, whether the certificate leads to a root, and whether it is about the
/// TPM that there is.
///
///   tpm2_nvread 0x01c08000 > platform.der
///   plastron-server verify platform-certificate platform.der --roots makers/ --ek-certificate ek.der
///
/// Without `--roots`, nobody is asked who signed it.
#[derive(Args, Debug)]
pub(in crate::cli) struct PlatformCertificate {
    /// The platform certificate, an attribute certificate or one for the endorsement key, in DER or PEM.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// A folder of certificates of those who may sign it, in PEM or DER: those that issued themselves are roots, all
    /// others may stand between. None come with this program.
    #[arg(long, value_name = "FOLDER")]
    roots: Option<PathBuf>,
    /// The certificate of the endorsement key of the TPM that is in the machine.
    #[arg(long, value_name = "FILE")]
    ek_certificate: Option<PathBuf>,
    /// Takes certificates whose time is over.
    #[arg(long)]
    allow_expired: bool,
    #[command(flatten)]
    form: Form,
}

/// What a certificate says.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) issuer: String,
    pub(super) serial_number: String,
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform_serial: Option<String>,
    pub(super) holder: Holder,
    pub(super) roots: usize,
    pub(super) findings: Vec<Finding>,
}

/// By what it knows the TPM.
#[derive(Debug, Default, Serialize)]
pub(super) struct Holder {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ek_hash: Option<String>,
}

impl PlatformCertificate {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let report = self.report(now())?;
        self.form.print(&report, &report.findings)
    }

    pub(super) fn report(&self, now: i64) -> Result<Report, CommandError> {
        let expiry = if self.allow_expired {
            Expiry::Ignored
        } else {
            Expiry::Enforced
        };
        let roots = self.roots.as_deref();
        let roots = roots
            .map(|roots| folder::platform_roots(roots, expiry))
            .transpose()?;
        let ek = self.ek_certificate.as_deref().map(read).transpose()?;
        let mut report = Report {
            roots: roots.as_ref().map_or(0, attest::ek::PlatformRoots::len),
            ..Report::default()
        };
        let certificate = match Certificate::parse(&der(&read(&self.certificate)?)) {
            Ok(certificate) => certificate,
            Err(reject) => {
                report.findings.push(Finding::refused(reject));
                return Ok(report);
            }
        };
        report.describe(&certificate);
        let same = ek.map(|ek| EkCertificate::parse(&der(&ek)).and_then(|ek| certificate.check_holder(&ek)));
        report
            .findings
            .extend(same.and_then(Result::err).map(Finding::refused));
        report.findings.extend(match roots {
            Some(roots) => roots.verify(certificate, now).err().map(Finding::refused),
            None => Some(Finding::noted(Reject::PlatformChainUnknown)),
        });
        Ok(report)
    }
}

impl Report {
    fn describe(&mut self, certificate: &Certificate) {
        let (id, chassis) = (certificate.id(), certificate.chassis());
        self.issuer = id.issuer().into();
        self.serial_number = hex::encode(id.serial());
        self.manufacturer.clone_from(&chassis.manufacturer);
        self.model.clone_from(&chassis.model);
        self.version.clone_from(&chassis.version);
        self.platform_serial.clone_from(&chassis.serial);
        self.holder = match certificate.holder() {
            PlatformHolder::Certificate(id) => Holder {
                issuer: Some(id.issuer().into()),
                serial_number: Some(hex::encode(id.serial())),
                ek_hash: None,
            },
            PlatformHolder::Key(hash) => Holder {
                ek_hash: Some(hash.to_string()),
                ..Holder::default()
            },
        };
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| printable(text.as_bytes());
        let or_none = |text: &Option<String>| shown(text.as_deref().unwrap_or("-"));
        writeln!(f, "Issuer        : {}", shown(&self.issuer))?;
        writeln!(f, "Serial number : {}", self.serial_number)?;
        let [manufacturer, model, version] = [&self.manufacturer, &self.model, &self.version];
        let machine = format!("{manufacturer} {model} {version}");
        writeln!(f, "Machine       : {}", shown(&machine))?;
        writeln!(f, "Its number    : {}", or_none(&self.platform_serial))?;
        match &self.holder.ek_hash {
            Some(hash) => writeln!(f, "TPM           : EK hash {hash}")?,
            None => writeln!(
                f,
                "TPM           : EK certificate {} of {}",
                or_none(&self.holder.serial_number),
                or_none(&self.holder.issuer)
            )?,
        }
        writeln!(f, "Roots         : {}\n", self.roots)?;
        if self.findings.is_empty() {
            writeln!(f, "Nothing was found.")?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
