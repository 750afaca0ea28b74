//! Quotes of other software, by keys of other templates, and values of PCRs.

use attest::{CapturedKey, CapturedQuote, PcrSelection, PcrValues, Reject, SignedQuote};

use super::{Row, logs::quoted, ranges};
use crate::fixtures::{self, CapturedEvidence, Pcrs, pcrs, quote};

pub(super) fn row(name: &str) -> Row {
    let evidence = quote(name);
    let values = fixtures::tpm_of(name).map(|tpm| pcrs(&tpm).values);
    match verify(&evidence) {
        Ok(Some(signed)) => proven(&signed, values.as_ref()),
        Ok(None) => Row {
            verdict: "no key",
            ..Row::accepted("", said(&evidence, values.as_ref()))
        },
        Err(reject) => Row::refused(reject),
    }
}

/// Nothing if nobody kept the key: parsed, no more.
fn verify(evidence: &CapturedEvidence) -> Result<Option<SignedQuote>, Reject> {
    let key = evidence
        .ak
        .as_ref()
        .map(|ak| CapturedKey::parse(ak))
        .transpose()?;
    let quote = CapturedQuote::parse(&evidence.quote, &evidence.signature)?;
    key.map(|key| quote.verify(&key, &evidence.nonce)).transpose()
}

fn proven(signed: &SignedQuote, values: Option<&PcrValues>) -> Row {
    let place = match signed.is_endorsed {
        Some(true) => "by a primary key of the endorsement hierarchy",
        _ => "by a key of another place",
    };
    let over = selection(signed.selection());
    match values.map(|values| signed.matches(values)) {
        None => Row::accepted(place, over),
        Some(Ok(_)) => Row::accepted(place, format!("{over} equal")),
        Some(Err(reject @ Reject::PcrDigest)) => Row::accepted(place, format!("{over}: {}", reject.code())),
        Some(Err(reject)) => Row::refused(reject),
    }
}

/// Of a quote that nobody can verify.
fn said(evidence: &CapturedEvidence, values: Option<&PcrValues>) -> String {
    let (over, pcr_digest, hash) = quoted(&evidence.quote).unwrap();
    let verdict = match values {
        Some(values) if over.is_empty() || values.select(&over).iter().count() < over.len() => "",
        Some(values) if values.digest(&over, hash).as_bytes() == pcr_digest => " equal",
        Some(_) => ": pcr_digest",
        None => "",
    };
    format!("{}{verdict}", selection(&over))
}

pub(super) fn values(name: &str) -> Row {
    let Pcrs { values, quote } = pcrs(name.strip_suffix(".txt").unwrap());
    let mut banks: Vec<_> = values.iter().map(|(alg, ..)| alg).collect();
    banks.dedup();
    let of = |alg| {
        values
            .iter()
            .filter(move |(bank, ..)| *bank == alg)
            .map(|(_, pcr, _)| pcr)
    };
    let banks = banks.into_iter().map(|alg| (alg, of(alg).collect())).collect();
    let says = if quote.is_some() { "with a quote" } else { "" };
    Row::accepted(says, selection(&PcrSelection::new(banks).unwrap_or_default()))
}

/// As `sha256 0-7+sha384 0-7`.
fn selection(selection: &PcrSelection) -> String {
    let banks = selection
        .banks()
        .map(|(alg, pcrs)| format!("{alg} {}", ranges(pcrs)));
    banks.collect::<Vec<_>>().join("+")
}
