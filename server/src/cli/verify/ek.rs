//! `verify ek-certificate`.

use std::{fmt, path::PathBuf};

use attest::{
    ek::{EkCertificate as Certificate, EkRoots, Expiry},
    report::{Finding, printable},
};
use clap::Args;
use serde::Serialize;

use super::{CommandError, Form, folder, now, read};

/// Says whether the certificate of an endorsement key leads to a root, by default one of the TPM's vendor, and what it says
/// of the TPM.
///
///   tpm2_nvread 0x01c00002 > ek.der; plastron-server verify ek-certificate ek.der
#[derive(Args, Debug)]
pub(in crate::cli) struct EkCertificate {
    /// The certificate, in DER as the TPM holds it, or in PEM.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// A folder of CA certificates, in PEM or DER, that count instead of those of TPM vendors that come with this
    /// program: those that issued themselves are roots, all others intermediates.
    #[arg(long, value_name = "FOLDER")]
    roots: Option<PathBuf>,
    /// Takes certificates whose time is over, as those of old TPMs are.
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
    /// As the certificate has it.
    pub(super) manufacturer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manufacturer_hex: Option<String>,
    pub(super) model: String,
    /// As the certificate has it.
    pub(super) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version_hex: Option<String>,
    pub(super) roots: usize,
    pub(super) findings: Vec<Finding>,
}

impl EkCertificate {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let report = self.report(now())?;
        self.form.print(&report, &report.findings)
    }

    pub(super) fn report(&self, now: i64) -> Result<Report, CommandError> {
        let roots = self.read_roots()?;
        let mut report = Report {
            roots: roots.len(),
            ..Report::default()
        };
        let refused = Certificate::parse(&super::der(&read(&self.certificate)?))
            .and_then(|certificate| {
                report.describe(&certificate);
                roots.verify(certificate, &[], now)
            })
            .err();
        report.findings.extend(refused.map(Finding::refused));
        Ok(report)
    }

    fn read_roots(&self) -> Result<EkRoots, CommandError> {
        let expiry = if self.allow_expired {
            Expiry::Ignored
        } else {
            Expiry::Enforced
        };
        if let Some(folder) = &self.roots {
            return folder::ek_roots(folder, expiry);
        }
        let mut roots = EkRoots::new(expiry);
        roots.add_shipped();
        Ok(roots)
    }
}

impl Report {
    fn describe(&mut self, certificate: &Certificate) {
        let (id, attributes) = (certificate.id(), certificate.attributes());
        self.issuer = id.issuer().into();
        self.serial_number = hex::encode(id.serial());
        [self.manufacturer_hex, self.version_hex] = attributes.hex();
        self.manufacturer.clone_from(&attributes.manufacturer);
        self.model.clone_from(&attributes.model);
        self.version.clone_from(&attributes.version);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [issuer, manufacturer, model, version] =
            [&self.issuer, &self.manufacturer, &self.model, &self.version]
                .map(|text| printable(text.as_bytes()));
        writeln!(f, "Issuer        : {issuer}")?;
        writeln!(f, "Serial number : {}", self.serial_number)?;
        writeln!(f, "TPM           : {manufacturer} {model} {version}")?;
        writeln!(f, "Roots         : {}\n", self.roots)?;
        if self.findings.is_empty() {
            writeln!(f, "Nothing was found.")?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
