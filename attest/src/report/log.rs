//! A report on the firmware's event log.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Finding, write_findings};
use crate::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject, VerifiedPcrs,
    event_log::{
        Content, Event, EventLog, Format, Handover, Measurements, SecureBoot, UKI_PCR, boot_phases,
        uki_sections,
    },
    ima,
};

/// What an event log says, and what it is worth.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// `crypto-agile` or `legacy`.
    pub format: &'static str,
    /// The banks that it has digests of.
    pub banks: Vec<String>,
    /// The locality from which the TPM was started.
    pub startup_locality: u8,
    /// All events that extended a PCR.
    pub events: Vec<EventRow>,
    /// What the events leave in the PCRs of every bank.
    pub pcrs: Vec<PcrRow>,
    /// Secure Boot, if PCR 7 tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBootRow>,
    /// Positions of the images that were started from the boot option on, if firmware handed over.
    pub images: Vec<u32>,
    /// The sections of a unified kernel image.
    pub sections: Vec<SectionRow>,
    /// The phases of the boot that systemd did not log, if PCR 11 is known and they explain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Vec<&'static str>>,
    /// What checks found.
    pub findings: Vec<Finding>,
}

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    /// Position, as TCG's tools count.
    pub index: u32,
    /// The PCR.
    pub pcr: u8,
    /// What the log calls it; not trusted.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests by bank.
    pub digests: BTreeMap<String, String>,
    /// How much of its data has the digest of the strongest bank: `whole`, `part`, or `absent`: then the remark is
    /// nothing but a remark.
    pub content: &'static str,
    /// What the data says.
    pub remark: String,
}

/// A PCR.
#[derive(Clone, Debug, Serialize)]
pub struct PcrRow {
    /// The bank.
    pub bank: String,
    /// The PCR.
    pub index: u8,
    /// What the events leave in it.
    pub value: String,
    /// What it holds, where that is known and something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// Secure Boot.
#[derive(Clone, Debug, Serialize)]
pub struct SecureBootRow {
    /// Whether it is on.
    pub on: bool,
    /// `audit`, `deployed`, `setup`, `user`.
    pub mode: String,
    /// SHA-256 of each platform key.
    pub pk: Vec<String>,
    /// SHA-256 of each key exchange key.
    pub kek: Vec<String>,
    /// SHA-256 of each certificate or image that may start.
    pub db: Vec<String>,
    /// SHA-256 of each certificate or image that may not.
    pub dbx: Vec<String>,
    /// By what images were verified: where it was found, and its SHA-256.
    pub authorities: Vec<(String, String)>,
}

/// A section of a unified kernel image.
#[derive(Clone, Debug, Serialize)]
pub struct SectionRow {
    /// Its name.
    pub name: &'static str,
    /// The digest of what is in it.
    pub digest: String,
}

impl LogReport {
    /// Reports on `log`; `actual` are values that PCRs hold, as far as they are known.
    #[must_use]
    pub fn of(log: &[u8], actual: Option<&PcrValues>) -> Self {
        let mut report = Self::default();
        match EventLog::parse(log) {
            Ok(log) => report.describe(&log, actual.unwrap_or(&PcrValues::default())),
            Err(reject) => report.findings.push(Finding::refused(reject)),
        }
        report
    }

    fn describe(&mut self, log: &EventLog, actual: &PcrValues) {
        self.format = match log.format() {
            Format::CryptoAgile => "crypto-agile",
            Format::Legacy => "legacy",
        };
        self.banks = log.banks().map(|alg| alg.to_string()).collect();
        self.startup_locality = log.startup_locality();
        let strongest = log.banks().max().unwrap_or(HashAlg::Sha1);
        self.events = log
            .events()
            .map(|event| EventRow::of(&event, strongest))
            .collect();
        if strongest == HashAlg::Sha1 {
            self.findings
                .push(Finding::refused(Reject::LogBank(HashAlg::Sha256)));
        }
        for alg in log.banks() {
            self.replay(log, alg, actual);
        }
        self.check_values(actual);
        self.measure(log, strongest);
        self.phases = boot_phases(log, actual, strongest).map(<[_]>::to_vec);
    }

    /// Replays a bank; one of SHA-1 beside others decides nothing.
    fn replay(&mut self, log: &EventLog, alg: HashAlg, actual: &PcrValues) {
        let replayed = match log.replay(alg) {
            Ok(replayed) => replayed,
            Err(reject) if alg == HashAlg::Sha1 => return self.findings.push(Finding::noted(reject)),
            Err(reject) => return self.findings.push(Finding::refused(reject)),
        };
        let phases = boot_phases(log, actual, alg).is_some();
        let logged: PcrSet = log.events().map(|event| event.pcr).collect();
        let known: PcrSet = actual
            .iter()
            .filter(|(bank, ..)| *bank == alg)
            .map(|(_, pcr, _)| pcr)
            .collect();
        let all: PcrSet = (0..PcrSet::COUNT)
            .filter(|pcr| logged.contains(*pcr) || known.contains(*pcr))
            .collect();
        let Ok(selection) = PcrSelection::new(vec![(alg, all)]) else {
            return;
        };
        for (_, index, value) in replayed.select(&selection).iter() {
            let other = actual.get(alg, index).filter(|actual| *actual != value);
            self.pcrs.push(PcrRow {
                bank: alg.to_string(),
                index,
                value: value.to_string(),
                actual: other.map(ToString::to_string),
            });
            if other.is_some() && !(index == UKI_PCR && phases) {
                self.findings.push(mismatch(alg, index, logged.contains(index)));
            }
        }
    }

    /// PCRs of firmware that were never extended, and those of a dynamic launch (38, 55).
    fn check_values(&mut self, actual: &PcrValues) {
        let banks: BTreeMap<HashAlg, PcrSet> =
            actual.iter().fold(BTreeMap::new(), |mut banks, (alg, pcr, _)| {
                let set: &mut PcrSet = banks.entry(alg).or_default();
                *set = set.iter().chain([pcr]).collect();
                banks
            });
        // A bank that firmware does not use is zeros, and is no bank of the log.
        let used = banks
            .into_iter()
            .filter(|(alg, _)| self.banks.contains(&alg.to_string()));
        if let Ok(selection) = PcrSelection::new(used.collect())
            && let Err(reject) = VerifiedPcrs::new(actual.select(&selection), &selection)
        {
            self.findings.push(Finding::refused(reject));
        }
    }

    fn measure(&mut self, log: &EventLog, alg: HashAlg) {
        let all = (0..PcrSet::COUNT).collect();
        let measurements = match Measurements::verify(log.clone(), alg, all) {
            Ok(measurements) => measurements,
            Err(reject) => {
                let finding = Finding::refused(reject);
                if !self.findings.contains(&finding) {
                    self.findings.push(finding);
                }
                return;
            }
        };
        match SecureBoot::of(&measurements) {
            Ok(state) => {
                self.secure_boot = Some(SecureBootRow::of(&state));
                let off = state.enforced().err();
                self.findings.extend(off.map(Finding::noted));
            }
            Err(reject) => self.findings.push(Finding::noted(reject)),
        }
        match Handover::of(&measurements) {
            Ok(handover) => self.images = handover.images,
            Err(reject) => self.findings.push(Finding::noted(reject)),
        }
        match uki_sections(&measurements) {
            Ok(sections) => {
                let row = |section: &crate::event_log::UkiSection<'_>| SectionRow {
                    name: section.name,
                    digest: hex::encode(section.digest),
                };
                self.sections = sections.iter().flatten().map(row).collect();
            }
            Err(reject) => self.findings.push(Finding::noted(reject)),
        }
    }
}

/// Firmware's PCRs have to be explained, and so has each that the log has events of; IMA and programs extend others
/// without telling this log.
fn mismatch(alg: HashAlg, pcr: u8, is_logged: bool) -> Finding {
    let reject = Reject::LogMismatch(alg, pcr);
    if pcr > 7 && (pcr == ima::PCR || !is_logged) {
        Finding::noted(reject)
    } else {
        Finding::refused(reject)
    }
}

impl EventRow {
    fn of(event: &Event<'_>, alg: HashAlg) -> Self {
        let content = event
            .digests
            .of(alg)
            .map_or(Content::Absent, |digest| Content::find(alg, digest, event.data));
        Self {
            index: event.index,
            pcr: event.pcr,
            kind: event.kind.to_string(),
            digests: event
                .digests
                .iter()
                .map(|(alg, digest)| (alg.to_string(), hex::encode(digest)))
                .collect(),
            content: match content {
                Content::Absent => "absent",
                Content::Part(_) => "part",
                Content::Whole(_) => "whole",
            },
            remark: event.remark(),
        }
    }
}

impl SecureBootRow {
    fn of(state: &SecureBoot<'_>) -> Self {
        let fingerprints = |keys: &[crate::event_log::Signature<'_>]| {
            keys.iter().map(|key| key.fingerprint().to_string()).collect()
        };
        Self {
            on: state.is_on,
            mode: format!("{:?}", state.mode).to_lowercase(),
            pk: fingerprints(&state.pk),
            kek: fingerprints(&state.kek),
            db: fingerprints(&state.db),
            dbx: fingerprints(&state.dbx),
            authorities: state
                .authorities
                .iter()
                .map(|authority| (authority.database.clone(), authority.fingerprint().to_string()))
                .collect(),
        }
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Event log     : {}, {}, {} events",
            self.format,
            self.banks.join("+"),
            self.events.len()
        )?;
        writeln!(f, "Locality      : {}", self.startup_locality)?;
        match &self.secure_boot {
            Some(state) => write!(f, "{state}")?,
            None => writeln!(f, "Secure Boot   : unknown")?,
        }
        if !self.images.is_empty() {
            let images: Vec<_> = self.images.iter().map(|index| format!("event {index}")).collect();
            writeln!(f, "Images        : {}", images.join(", "))?;
        }
        for section in &self.sections {
            writeln!(f, "Section       : {:9} {}", section.name, section.digest)?;
        }
        if let Some(phases) = &self.phases {
            writeln!(
                f,
                "Phases        : {}",
                if phases.is_empty() {
                    "none".into()
                } else {
                    phases.join(", ")
                }
            )?;
        }
        writeln!(f)?;
        for event in &self.events {
            writeln!(
                f,
                "{:4} PCR {:2} {:34} {:6} {}",
                event.index, event.pcr, event.kind, event.content, event.remark
            )?;
        }
        writeln!(f)?;
        for pcr in &self.pcrs {
            writeln!(f, "{:6} PCR {:2} : {}", pcr.bank, pcr.index, pcr.value)?;
            if let Some(actual) = &pcr.actual {
                writeln!(f, "         holds : {actual}")?;
            }
        }
        writeln!(f)?;
        write_findings(f, &self.findings)
    }
}

impl fmt::Display for SecureBootRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Secure Boot   : {}, {} mode",
            if self.on { "on" } else { "off" },
            self.mode
        )?;
        let sizes = [&self.pk, &self.kek, &self.db, &self.dbx].map(Vec::len);
        let [pk, kek, db, dbx] = sizes;
        writeln!(f, "Keys          : {pk} PK, {kek} KEK, {db} db, {dbx} dbx")?;
        self.authorities
            .iter()
            .try_for_each(|(database, digest)| writeln!(f, "Verified by   : {database} {digest}"))
    }
}
