//! `verify ek-certificate`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use attest::{
    ek::{CaCertificate, EkCertificate as Certificate, EkRoots, Expiry},
    report::{Finding, printable},
};
use clap::Args;
use serde::Serialize;

use super::{
    CommandError, Form, ek_file,
    folder::{self, CaFolder, unusable},
    now, read,
};

/// Says whether the certificate of an endorsement key leads to a root, by default one of the TPM's vendor, and what it says
/// of the TPM.
///
///   tpm2_nvread 0x01c00002 > ek.der; plastron-server verify ek-certificate ek.der
#[derive(Args, Debug)]
pub(in crate::cli) struct EkCertificate {
    /// The certificate: in DER as the TPM holds it, in PEM, in base64, or as a vendor's service answers (JSON, which
    /// older versions of `tpm2_getekcertificate` keep). Certificates of CAs that follow it in a PEM may stand
    /// between it and a root.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// A folder of CA certificates, in PEM or DER, that count instead of those of TPM vendors that come with this
    /// program: those that issued themselves are roots, all others intermediates. Other files in it are skipped.
    #[arg(long, value_name = "FOLDER")]
    roots: Option<PathBuf>,
    /// Counts the roots of TPM vendors that come with this program beside those of `--roots`, each for its vendor's TPMs.
    #[arg(long, requires = "roots")]
    vendor_roots: bool,
    /// A folder of CA certificates, in PEM or DER, that may stand between the certificate and a root. None of them is
    /// trusted by itself.
    #[arg(long, value_name = "FOLDER")]
    intermediates: Option<PathBuf>,
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
    /// Files of the folders that hold no certificate.
    pub(super) skipped: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

impl EkCertificate {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let report = self.report(now())?;
        self.form.print(&report, &report.findings)
    }

    pub(super) fn report(&self, now: i64) -> Result<Report, CommandError> {
        let mut report = Report::default();
        let roots = self.read_roots(&mut report)?;
        let (leaf, sent) = self.read_certificates()?;
        report.roots = roots.len();
        let refused = Certificate::parse(&leaf)
            .and_then(|certificate| {
                report.describe(&certificate);
                roots.verify(certificate, &sent, now)
            })
            .err();
        report.findings.extend(refused.map(Finding::refused));
        Ok(report)
    }

    /// The certificate, and those of CAs that follow it in a PEM.
    fn read_certificates(&self) -> Result<(Vec<u8>, Vec<CaCertificate>), CommandError> {
        let path = &self.certificate;
        let bytes = read(path)?;
        let ders = folder::pem_certificates(&bytes).map_err(|error| unusable(path, error))?;
        let Some((leaf, following)) = ders.split_first() else {
            let decoded = ek_file::decode(&bytes);
            return Ok((decoded.unwrap_or_else(|| super::der(&bytes)), Vec::new()));
        };
        let sent: Result<_, _> = following.iter().map(|der| folder::ca(path, der)).collect();
        Ok((leaf.clone(), sent?))
    }

    fn read_roots(&self, report: &mut Report) -> Result<EkRoots, CommandError> {
        let mut roots = EkRoots::new(if self.allow_expired {
            Expiry::Ignored
        } else {
            Expiry::Enforced
        });
        if self.roots.is_none() || self.vendor_roots {
            roots.add_shipped();
        }
        let mut read_folder = |path: &Path| {
            let CaFolder {
                certificates,
                skipped,
            } = CaFolder::read(path)?;
            let skipped = skipped.iter().map(|path| path.display().to_string());
            report.skipped.extend(skipped);
            Ok::<_, CommandError>(certificates)
        };
        if let Some(path) = &self.roots {
            let (own, between): (Vec<_>, Vec<_>) = read_folder(path)?
                .into_iter()
                .partition(CaCertificate::is_self_issued);
            if own.is_empty() {
                return Err(unusable(path, "no root is in it"));
            }
            own.into_iter().for_each(|root| roots.add_root(root));
            between.into_iter().for_each(|ca| roots.add_intermediate(ca));
        }
        if let Some(path) = &self.intermediates {
            let known = read_folder(path)?.into_iter();
            known.for_each(|ca| roots.add_intermediate(ca));
        }
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
        writeln!(f, "Roots         : {}", self.roots)?;
        for file in &self.skipped {
            writeln!(
                f,
                "Skipped       : {}, which holds no certificate",
                printable(file.as_bytes())
            )?;
        }
        writeln!(f)?;
        if self.findings.is_empty() {
            writeln!(f, "Nothing was found.")?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
