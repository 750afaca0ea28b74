//! Measurement lists of kernels: what is read from each, and what of it the PCRs prove.

use std::collections::BTreeMap;

use attest::{
    Reject,
    ima::{Entry, MeasurementList, Progress, ProvenList, Quoted, explain},
};

use super::Row;
use crate::fixtures::{self, ima_list, pcrs};

pub(super) fn row(name: &str) -> Row {
    let list = match MeasurementList::parse(&ima_list(name)) {
        Ok(list) => list,
        Err(reject) => return Row::refused(reject),
    };
    let read = describe(&list);
    let Some(tpm) = fixtures::tpm_of(name) else {
        return Row::accepted(read, "");
    };
    match prove(list, &tpm) {
        Ok(proven) => Row::accepted(read, judge(&proven, &tpm)),
        Err(reject) => Row {
            verdict: reject.code(),
            ..Row::accepted(read, "")
        },
    }
}

/// How many entries of which template in which PCR, and how many of them are violations.
fn describe(list: &MeasurementList) -> String {
    let mut kinds = BTreeMap::new();
    for entry in list.entries() {
        *kinds.entry((entry.template, entry.pcr)).or_insert(0) += 1;
    }
    let kinds: Vec<_> = kinds
        .iter()
        .map(|((template, pcr), count)| format!("{count} {template} in {pcr}"))
        .collect();
    let violations = list.entries().filter(Entry::is_violation).count();
    format!("{}, {violations} violations", kinds.join(", "))
}

/// Proves a list by the values of its TPM. That of the DL160 goes on after entries that were left out.
fn prove(list: MeasurementList, tpm: &str) -> Result<ProvenList, Reject> {
    let from = match tpm {
        "guard-dl160-fwupd-report" => {
            Progress::resumed(0, 15_169, &pcrs("guard-dl160-fwupd-report-before").values)
        }
        _ => Progress::of_boot(0),
    };
    explain(list, from.entries(), &from, 0, &Quoted::Values(&pcrs(tpm).values))
}

/// How many entries the values prove, how many follow, what policies refuse.
fn judge(proven: &ProvenList, tpm: &str) -> String {
    let demands = [
        proven.clone().without_violations(),
        proven.clone().from_this_boot(&pcrs(tpm).values),
        proven.clone().hashed_whole(),
    ];
    let refused: Vec<_> = demands
        .into_iter()
        .filter_map(|outcome| outcome.err().map(Reject::code))
        .collect();
    let counts = format!(
        "{} proven, {} follow",
        proven.entries().count(),
        proven.trailing()
    );
    if refused.is_empty() {
        counts
    } else {
        format!("{counts}; a policy may refuse {}", refused.join(", "))
    }
}
