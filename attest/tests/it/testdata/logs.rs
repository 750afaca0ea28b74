//! Event logs: what is read from each, how its machine was booted, and what it explains of the PCRs that it had.

use attest::{
    CapturedKey, CapturedQuote, Digest, HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::{
        Content, EventLog, Format, Handover, Measurements, SecureBoot, UKI_PCR, boot_phases, explain,
        uki_sections,
    },
    ima::{self, MeasurementList, Progress, Quoted},
    wire::{Attest, Attested},
};

use super::{Row, all_pcrs, ranges};
use crate::fixtures::{self, Pcrs, event_log, pcrs};

pub(super) fn row(name: &str) -> Row {
    let log = match EventLog::parse(&event_log(name)) {
        Ok(log) => log,
        Err(reject) => return Row::refused(reject),
    };
    let (read, pcrs) = (describe(&log), replays(name, &log));
    let alg = log.banks().max().unwrap();
    match Measurements::verify(log, alg, all_pcrs()) {
        Ok(measurements) => Row::accepted(
            format!("{read}: {}; {}", contents(&measurements), boot(&measurements)),
            pcrs,
        ),
        Err(reject) => Row {
            verdict: reject.code(),
            ..Row::accepted(read, pcrs)
        },
    }
}

fn describe(log: &EventLog) -> String {
    let format = match log.format() {
        Format::CryptoAgile => "crypto-agile",
        Format::Legacy => "legacy",
    };
    let banks: Vec<_> = log.banks().map(|alg| alg.to_string()).collect();
    format!("{format} {}, {} events", banks.join("+"), log.events().count())
}

/// How many events have the digest of all, a part, and nothing of their data.
fn contents(measurements: &Measurements) -> String {
    let contents: Vec<_> = all_pcrs()
        .iter()
        .flat_map(|pcr| measurements.of(pcr).unwrap())
        .map(|measurement| measurement.content)
        .collect();
    let count = |is: fn(&Content<'_>) -> bool| contents.iter().filter(|content| is(content)).count();
    let whole = count(|content| matches!(content, Content::Whole(_)));
    let part = count(|content| matches!(content, Content::Part(_) | Content::Unended(_)));
    let absent = count(|content| matches!(content, Content::Absent));
    format!("{whole} whole, {part} part, {absent} absent")
}

fn boot(measurements: &Measurements) -> String {
    let mut said = vec![
        SecureBoot::of(measurements).map_or_else(code, |state| secure_boot(&state)),
        Handover::of(measurements).map_or_else(code, |handover| {
            let end = if handover.has_ended { "" } else { ", no end" };
            format!("{}+{} images{end}", handover.before.len(), handover.images.len())
        }),
        uki_sections(measurements).map_or_else(code, |sections| {
            let names = sections.iter().flatten().map(|section| section.name);
            names.collect()
        }),
    ];
    said.retain(|text| !text.is_empty());
    said.join("; ")
}

fn code(reject: Reject) -> String {
    reject.code().into()
}

fn secure_boot(state: &SecureBoot<'_>) -> String {
    let counts = [&state.pk, &state.kek, &state.db, &state.dbx].map(|keys| keys.len().to_string());
    let authorities = state.authorities.iter().map(|authority| {
        let mark = if authority.is_in_db { "!" } else { "" };
        format!("{}{mark}", authority.database)
    });
    let authorities: Vec<_> = authorities.collect();
    format!(
        "{} {:?} {} [{}]{}",
        if state.is_on { "on" } else { "off" },
        state.mode,
        counts.join("/"),
        authorities.join(" "),
        if state.weaknesses.is_empty() { "" } else { " weak" },
    )
}

/// What the log explains of the TPM's PCRs; or which it extended, of banks of which nobody kept the values.
fn replays(name: &str, log: &EventLog) -> String {
    let machine = fixtures::tpm_of(name);
    let tpm = machine.as_deref().map(pcrs).unwrap_or_default();
    let mut said: Vec<(String, String)> = Vec::new();
    for alg in log.banks() {
        let outcome = compare(log, alg, &tpm.values, machine.as_deref());
        match said.iter_mut().find(|(_, other)| *other == outcome) {
            Some((banks, _)) => banks.push_str(&format!("+{alg}")),
            None => said.push((alg.to_string(), outcome)),
        }
    }
    said.iter()
        .map(|(banks, outcome)| format!("{banks} {outcome}"))
        .chain(quote(log, tpm))
        .chain(machine.and_then(|machine| quote_with_list(log, &machine)))
        .collect::<Vec<_>>()
        .join("; ")
}

fn compare(log: &EventLog, alg: HashAlg, known: &PcrValues, tpm: Option<&str>) -> String {
    let of_known = known.iter().filter(|(bank, ..)| *bank == alg);
    let set: PcrSet = of_known.map(|(_, pcr, _)| pcr).collect();
    let is_known = set != PcrSet::default();
    let selected = if is_known { set } else { all_pcrs() };
    let selection = PcrSelection::new(vec![(alg, selected)]).unwrap();
    let replayed = match log.replay(alg) {
        Ok(replayed) => replayed.select(&selection),
        Err(reject) => return reject.code().into(),
    };
    let is_equal = |pcr: &u8| replayed.get(alg, *pcr) == known.get(alg, *pcr);
    let is_listed = |pcr: &u8| *pcr == ima::PCR && is_listed(tpm, alg, known);
    let is_phase = |pcr: &u8| *pcr == UKI_PCR && boot_phases(log, known, alg).is_some();
    let is_initial = |value: &Digest| value.is_filled(0) || value.is_filled(0xff);
    let is_extended = |pcr: &u8| !replayed.get(alg, *pcr).is_none_or(is_initial);
    let others = || selected.iter().filter(|pcr| !is_equal(pcr));
    let is_unexplained = |pcr: &u8| !is_listed(pcr) && !is_phase(pcr);
    let [equal, listed, phases, differ, extended] = [
        selected.iter().filter(is_equal).collect(),
        others().filter(is_listed).collect(),
        others().filter(is_phase).collect(),
        others().filter(is_unexplained).collect(),
        selected.iter().filter(is_extended).collect(),
    ]
    .map(ranges);
    match (is_known, extended.is_empty()) {
        (false, true) => "extends none".into(),
        (false, false) => format!("extends {extended}"),
        (true, ..) => {
            let parts = [
                ("equal ", equal, ""),
                ("", listed, " by list"),
                ("", phases, " by phases"),
            ];
            let parts = parts.iter().filter(|(_, pcrs, _)| !pcrs.is_empty());
            let parts: Vec<_> = parts
                .map(|(before, pcrs, after)| format!("{before}{pcrs}{after}"))
                .collect();
            let rest = if differ.is_empty() {
                String::new()
            } else {
                format!(" not {differ}")
            };
            parts.join(", ") + &rest
        }
    }
}

/// How many PCRs were quoted, and whether the log explains them.
fn quote(log: &EventLog, tpm: Pcrs) -> Option<String> {
    let (selection, pcr_digest, hash) = quoted(&tpm.quote?)?;
    let verdict = match explain(&selection, &pcr_digest, hash, Some(&tpm.values), log) {
        Ok(_) => "explained".into(),
        Err(Reject::LogMismatch(alg, pcr)) => format!("log_mismatch {alg}:{pcr}"),
        Err(reject) => code(reject),
    };
    Some(format!("{} quoted: {verdict}", selection.len()))
}

/// Whether the machine's list leads to what its PCR 10 holds.
fn is_listed(tpm: Option<&str>, alg: HashAlg, known: &PcrValues) -> bool {
    let list = tpm.and_then(fixtures::ima_list_of);
    let list = list.and_then(|list| MeasurementList::parse(&list).ok());
    let boot = Progress::of_boot(0);
    let proven = list.and_then(|list| ima::explain(list, 0, &boot, 0, &Quoted::Values(known)).ok());
    proven.is_some_and(|proven| proven.progress().pcrs().get(alg, ima::PCR).is_some())
}

/// Whether log and list together explain what the machine signed.
fn quote_with_list(log: &EventLog, machine: &str) -> Option<String> {
    let evidence = fixtures::quote_of(machine)?;
    let list = MeasurementList::parse(&fixtures::ima_list_of(machine)?).unwrap();
    let key = CapturedKey::parse(evidence.ak.as_ref()?).unwrap();
    let quote = CapturedQuote::parse(&evidence.quote, &evidence.signature).unwrap();
    let signed = quote.verify(&key, &evidence.nonce).unwrap();
    let verdict = signed.explain_list(&list, Some(log));
    let verdict = verdict.map_or_else(code, |_| "explained".into());
    Some(format!("with its list: {verdict}"))
}

/// What a TPMS_ATTEST says of PCRs.
pub(super) fn quoted(quote: &[u8]) -> Option<(PcrSelection, Vec<u8>, HashAlg)> {
    let Attested::Quote {
        selection,
        pcr_digest,
    } = Attest::parse(quote).ok()?.attested
    else {
        return None;
    };
    let hash = match pcr_digest.len() {
        20 => HashAlg::Sha1,
        48 => HashAlg::Sha384,
        _ => HashAlg::Sha256,
    };
    Some((selection, pcr_digest.to_vec(), hash))
}
