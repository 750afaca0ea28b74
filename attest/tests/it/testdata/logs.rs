//! Event logs: what is read from each, how its machine was booted, and what it explains of the PCRs that it had.

use attest::{
    Digest, HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::{Content, EventLog, Format, Handover, Measurements, SecureBoot, explain, uki_sections},
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
    let part = count(|content| matches!(content, Content::Part(_)));
    let absent = count(|content| matches!(content, Content::Absent));
    format!("{whole} whole, {part} part, {absent} absent")
}

fn boot(measurements: &Measurements) -> String {
    let mut said = vec![
        SecureBoot::of(measurements).map_or_else(code, |state| secure_boot(&state)),
        Handover::of(measurements).map_or_else(code, |handover| {
            format!("{}+{} images", handover.before.len(), handover.images.len())
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
    let tpm = fixtures::tpm_of(name).map(|tpm| pcrs(&tpm)).unwrap_or_default();
    let mut said: Vec<(String, String)> = Vec::new();
    for alg in log.banks() {
        let outcome = compare(log, alg, &tpm.values);
        match said.iter_mut().find(|(_, other)| *other == outcome) {
            Some((banks, _)) => banks.push_str(&format!("+{alg}")),
            None => said.push((alg.to_string(), outcome)),
        }
    }
    said.iter()
        .map(|(banks, outcome)| format!("{banks} {outcome}"))
        .chain(quote(log, tpm))
        .collect::<Vec<_>>()
        .join("; ")
}

fn compare(log: &EventLog, alg: HashAlg, known: &PcrValues) -> String {
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
    let is_initial = |value: &Digest| value.is_filled(0) || value.is_filled(0xff);
    let is_extended = |pcr: &u8| !replayed.get(alg, *pcr).is_none_or(is_initial);
    let [equal, differ, extended] = [
        selected.iter().filter(is_equal).collect(),
        selected.iter().filter(|pcr| !is_equal(pcr)).collect(),
        selected.iter().filter(is_extended).collect(),
    ]
    .map(ranges);
    match (is_known, differ.is_empty(), extended.is_empty()) {
        (false, _, true) => "extends none".into(),
        (false, ..) => format!("extends {extended}"),
        (true, true, _) => format!("equal {equal}"),
        (true, ..) => format!("equal {equal} not {differ}"),
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
