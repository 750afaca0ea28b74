//! A report on a measurement list of the kernel.

use std::fmt;

use serde::Serialize;

use super::{Finding, pcr::PcrRow, printable, write_findings};
use crate::{
    HashAlg, PcrValues, Reject,
    ima::{Entry, Hashing, MeasurementList, Progress, ProvenList, Quoted, explain},
};

/// What a measurement list says, and what PCRs prove of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImaReport {
    /// All entries.
    pub entries: Vec<EntryRow>,
    /// How many of them are violations.
    pub violations: usize,
    /// What the list leaves in the PCRs of each bank, on kernels since 5.8.
    pub pcrs: Vec<PcrRow>,
    /// What the PCRs prove, if they are known and do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven: Option<Proven>,
    /// What checks found.
    pub findings: Vec<Finding>,
}

/// An entry.
#[derive(Clone, Debug, Serialize)]
pub struct EntryRow {
    /// Its position.
    pub index: u32,
    /// The PCR.
    pub pcr: u8,
    /// The template.
    pub template: String,
    /// The hash of the file, and its digest.
    pub digest: String,
    /// Its path, or what was measured instead.
    pub path: String,
    /// The file's signature in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Whether it is a violation.
    pub violation: bool,
}

/// What PCRs prove of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Proven {
    /// How many entries.
    pub entries: u64,
    /// How many follow that are newer.
    pub trailing: u32,
    /// `whole`, or `padded_sha1` for kernels before 5.8.
    pub hashing: &'static str,
}

impl ImaReport {
    /// Reports on `list`; `actual` are values that PCRs hold, if they are known.
    #[must_use]
    pub fn of(list: &[u8], actual: Option<&PcrValues>) -> Self {
        Self::begun_at(list, actual, actual)
    }

    /// The same, where `boot` are the values as the kernel saw them when it began.
    pub(super) fn begun_at(list: &[u8], actual: Option<&PcrValues>, boot: Option<&PcrValues>) -> Self {
        let mut report = Self::default();
        match MeasurementList::parse(list) {
            Ok(list) => report.describe(&list, actual, boot),
            Err(reject) => report.findings.push(Finding::refused(reject)),
        }
        report
    }

    fn describe(&mut self, list: &MeasurementList, actual: Option<&PcrValues>, boot: Option<&PcrValues>) {
        self.entries = list.entries().map(|entry| EntryRow::of(&entry)).collect();
        self.violations = self.entries.iter().filter(|entry| entry.violation).count();
        for alg in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
            for (_, index, value) in list.replay(alg, Hashing::Whole).iter() {
                let actual = actual.and_then(|actual| actual.get(alg, index));
                self.pcrs.push(PcrRow::compared(alg, index, value, actual));
            }
        }
        if let Some(violation) = self.entries.iter().find(|entry| entry.violation) {
            self.findings
                .push(Finding::noted(Reject::ImaViolation(violation.index)));
        }
        if let (Some(actual), Some(boot)) = (actual, boot) {
            self.prove(list, actual, boot);
        }
    }

    fn prove(&mut self, list: &MeasurementList, actual: &PcrValues, begun: &PcrValues) {
        let boot = Progress::of_boot(0);
        let proven = match explain(list.clone(), 0, &boot, 0, &Quoted::Values(actual)) {
            Ok(proven) => proven,
            Err(reject) => return self.findings.push(Finding::refused(reject)),
        };
        self.proven = Some(Proven::of(&proven));
        let weak = proven.clone().hashed_whole().err();
        self.findings.extend(weak.map(Finding::noted));
        let verdict = if proven.can_be_told_from(actual) {
            Finding::refused
        } else {
            Finding::noted
        };
        self.findings
            .extend(proven.from_this_boot(begun).err().map(verdict));
    }
}

impl EntryRow {
    fn of(entry: &Entry<'_>) -> Self {
        let digest = entry.file_digest();
        Self {
            index: entry.index,
            pcr: entry.pcr,
            template: entry.template.into(),
            digest: digest.map_or_else(String::new, |file| {
                format!("{}:{}", printable(file.alg.as_bytes()), hex::encode(file.digest))
            }),
            path: printable(entry.path().unwrap_or_default()),
            signature: entry.signature().map(hex::encode),
            violation: entry.is_violation(),
        }
    }
}

impl Proven {
    fn of(proven: &ProvenList) -> Self {
        Self {
            entries: proven.progress().entries(),
            trailing: proven.trailing(),
            hashing: match proven.hashing() {
                Hashing::PaddedSha1 => "padded_sha1",
                Hashing::Whole => "whole",
            },
        }
    }
}

impl ImaReport {
    /// All but the findings.
    pub(super) fn write_facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Measurements  : {} entries, {} violations",
            self.entries.len(),
            self.violations
        )?;
        if let Some(proven) = &self.proven {
            writeln!(
                f,
                "Proven        : {} entries; {} are newer than the PCRs",
                proven.entries, proven.trailing
            )?;
        }
        writeln!(f)?;
        for entry in &self.entries {
            let mark = match (entry.violation, &entry.signature) {
                (true, _) => " VIOLATION",
                (false, Some(_)) => " signed",
                (false, None) => "",
            };
            writeln!(
                f,
                "{:6} PCR {:2} {:8} {} {}{mark}",
                entry.index, entry.pcr, entry.template, entry.digest, entry.path
            )?;
        }
        writeln!(f)?;
        for pcr in &self.pcrs {
            write!(f, "{pcr}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for ImaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_facts(f)?;
        write_findings(f, &self.findings)
    }
}
