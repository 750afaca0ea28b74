//! A report on the firmware's event log.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    BootTextRow, EventRow, Finding, SbatRow, SectionRow, SecureBootRow, WordsRow, compared::Compared,
    pcr::PcrRow, write_findings,
};
use crate::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject, VerifiedPcrs,
    event_log::{
        EventLog, Format, Handover, Measurements, SbatLevel, SecureBoot, UKI_PCR, boot_phases, boot_texts,
        uki_sections, unlogged_words,
    },
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
    /// The PCRs whose values are known, of the bank that is judged by; absent if no values are, and then all of this is
    /// the log's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Vec<u8>>,
    /// All events that extended a PCR.
    pub events: Vec<EventRow>,
    /// What the events leave in the PCRs of every bank, and whether that is what is known of them.
    pub pcrs: Vec<PcrRow>,
    /// Secure Boot, if PCR 7 tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBootRow>,
    /// The levels of revocations that were measured; shim measures one.
    pub sbat: Vec<SbatRow>,
    /// Positions of the images that were started from the boot option on, if firmware handed over.
    pub images: Vec<u32>,
    /// The sections of a unified kernel image.
    pub sections: Vec<SectionRow>,
    /// The texts that boot loaders measured.
    pub boot_texts: Vec<BootTextRow>,
    /// The phases of the boot that systemd did not log, if PCR 11 is known and they explain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Vec<&'static str>>,
    /// What systemd extended other PCRs by without writing it into the log, where that explains what they hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WordsRow>,
    /// What checks found.
    pub findings: Vec<Finding>,
}

impl LogReport {
    /// Reports on `log`; `actual` are values that PCRs hold, if any are known. Then nothing that other PCRs
    /// would tell is believed.
    #[must_use]
    pub fn of(log: &[u8], actual: Option<&PcrValues>) -> Self {
        Self::compared(log, actual.map_or(Compared::Nothing, Compared::Read))
    }

    pub(super) fn compared(log: &[u8], compared: Compared<'_>) -> Self {
        let mut report = Self::default();
        match EventLog::parse(log) {
            Ok(log) => report.describe(&log, compared),
            Err(reject) => report.findings.push(Finding::refused(reject)),
        }
        report
    }

    fn describe(&mut self, log: &EventLog, compared: Compared<'_>) {
        self.format = match log.format() {
            Format::CryptoAgile => "crypto-agile",
            Format::Legacy => "legacy",
        };
        self.banks = log.banks().map(|alg| alg.to_string()).collect();
        self.startup_locality = log.startup_locality();
        let bank = compared.bank(log);
        self.findings.extend(bank.err().map(Finding::refused));
        // Without values nothing is proven, so SHA-1 shows as much as any other.
        let own_word = log.banks().max().filter(|_| compared.values().is_none());
        let bank = bank.ok().or(own_word);
        let covered = bank.map(|alg| compared.covered(alg)).unwrap_or_default();
        self.compared = compared.values().map(|_| covered.iter().collect());
        self.events = log
            .events()
            .map(|event| EventRow::of(&event, bank.filter(|_| covered.contains(event.pcr))))
            .collect();
        let mut explained = PcrSet::default();
        for alg in log.banks() {
            let pcrs = self.replay(log, alg, bank, compared);
            if Some(alg) == bank {
                explained = pcrs;
            }
        }
        self.check_values(compared.values().unwrap_or(&PcrValues::default()));
        if let Some(alg) = bank {
            self.measure(log, alg, explained, compared);
            let phases = compared.values().and_then(|values| boot_phases(log, values, alg));
            self.phases = phases.map(<[_]>::to_vec);
        }
    }

    /// Replays a bank, and gives the PCRs that it explains; `bank` is the one that is judged by.
    fn replay(
        &mut self,
        log: &EventLog,
        alg: HashAlg,
        bank: Option<HashAlg>,
        compared: Compared<'_>,
    ) -> PcrSet {
        let covered = compared.covered(alg);
        let replayed = match log.replay_of(alg, covered) {
            Ok(replayed) => replayed,
            Err(reject) => {
                self.findings.push(compared.unreplayed(alg, bank, reject));
                return PcrSet::default();
            }
        };
        let Some(actual) = compared.values() else {
            self.pcrs.extend(PcrRow::unproven(&replayed));
            return covered;
        };
        let first = self.pcrs.len();
        let explained = self.compare(log, &replayed, alg, compared, actual);
        let others = (0..PcrSet::COUNT).filter(|pcr| !covered.contains(*pcr));
        match log.replay_of(alg, others.collect()) {
            Ok(others) => self.pcrs.extend(PcrRow::unproven(&others)),
            Err(reject) => self.findings.push(Finding::noted(reject)),
        }
        if let Some(rows) = self.pcrs.get_mut(first..) {
            rows.sort_by_key(|row| row.index);
        }
        explained
    }

    /// Compares what the log leaves in PCRs of a bank with what these hold, and gives those that it explains.
    fn compare(
        &mut self,
        log: &EventLog,
        replayed: &PcrValues,
        alg: HashAlg,
        compared: Compared<'_>,
        actual: &PcrValues,
    ) -> PcrSet {
        let Ok(selection) = PcrSelection::new(vec![(alg, compared.covered(alg))]) else {
            return PcrSet::default();
        };
        let mut explained = Vec::new();
        for (_, index, value) in replayed.select(&selection).iter() {
            let row = PcrRow::compared(alg, index, value, actual.get(alg, index));
            let words = unlogged_words(log, actual, alg, index).filter(|_| row.actual.is_some());
            if let Some(words) = words.filter(|_| index != UKI_PCR) {
                self.words.push(WordsRow::of(alg, index, words));
            }
            if row.actual.is_none() || words.is_some() {
                explained.push(index);
            } else {
                self.findings.extend(compared.mismatch(alg, index));
            }
            self.pcrs.push(row);
        }
        explained.into_iter().collect()
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

    /// Says what `pcrs` prove, those that the log explains (35).
    fn measure(&mut self, log: &EventLog, alg: HashAlg, pcrs: PcrSet, compared: Compared<'_>) {
        let measurements = match Measurements::verify(log.clone(), alg, pcrs) {
            Ok(measurements) => match compared.values() {
                Some(values) => measurements.with_end(values),
                None => measurements,
            },
            Err(reject) => {
                let finding = Finding::refused(reject);
                if !self.findings.contains(&finding) {
                    self.findings.push(finding);
                }
                return;
            }
        };
        if pcrs.contains(7) {
            match SecureBoot::of(&measurements) {
                Ok(state) => {
                    self.secure_boot = Some(SecureBootRow::of(&state));
                    let off = state.enforced().err();
                    self.findings.extend(off.map(Finding::noted));
                }
                Err(reject) => self.findings.push(Finding::noted(reject)),
            }
        }
        if pcrs.contains(7) {
            match SbatLevel::all(&measurements) {
                Ok(levels) => self.sbat = levels.iter().map(SbatRow::of).collect(),
                Err(reject) => self.findings.push(Finding::noted(reject)),
            }
        }
        if pcrs.contains(4) && pcrs.contains(5) {
            match Handover::of(&measurements) {
                Ok(handover) => {
                    let unended = (!handover.has_ended).then_some(Reject::LogHandover);
                    self.findings.extend(unended.map(Finding::noted));
                    self.images = handover.images;
                }
                Err(reject) => self.findings.push(Finding::noted(reject)),
            }
        }
        match boot_texts(&measurements) {
            Ok(texts) => self.boot_texts = texts.iter().map(BootTextRow::of).collect(),
            Err(reject) => self.findings.push(Finding::noted(reject)),
        }
        if pcrs.contains(UKI_PCR) {
            match uki_sections(&measurements) {
                Ok(sections) => self.sections = sections.iter().flatten().map(SectionRow::of).collect(),
                Err(reject) => self.findings.push(Finding::noted(reject)),
            }
        }
    }
}

impl LogReport {
    /// All but the findings.
    pub(super) fn write_facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Event log     : {}, {}, {} events",
            self.format,
            self.banks.join("+"),
            self.events.len()
        )?;
        match &self.compared {
            Some(pcrs) => {
                let pcrs: Vec<_> = pcrs.iter().map(ToString::to_string).collect();
                writeln!(f, "Compared PCRs : {}", pcrs.join(","))?;
            }
            None => writeln!(f, "Compared PCRs : none; all of this is the log's own word")?,
        }
        writeln!(f, "Locality      : {}", self.startup_locality)?;
        match &self.secure_boot {
            Some(state) => write!(f, "{state}")?,
            None => writeln!(f, "Secure Boot   : unknown")?,
        }
        for level in &self.sbat {
            writeln!(f, "SBAT level    : {level}")?;
        }
        if !self.images.is_empty() {
            let images: Vec<_> = self.images.iter().map(|index| format!("event {index}")).collect();
            writeln!(f, "Images        : {}", images.join(", "))?;
        }
        for section in &self.sections {
            writeln!(f, "Section       : {:9} {}", section.name, section.digest)?;
        }
        // Commands are among the events; there are many.
        for text in self.boot_texts.iter().filter(|text| text.claimed != "grub_cmd") {
            writeln!(f, "Boot loader   : {} {}", text.claimed, text.text)?;
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
        for words in &self.words {
            writeln!(f, "Not logged    : {words}")?;
        }
        writeln!(f)?;
        for event in &self.events {
            writeln!(
                f,
                "{:4} PCR {:2} {:34} {:8} {}",
                event.index, event.pcr, event.kind, event.content, event.remark
            )?;
        }
        writeln!(f)?;
        for pcr in &self.pcrs {
            write!(f, "{pcr}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_facts(f)?;
        write_findings(f, &self.findings)
    }
}
