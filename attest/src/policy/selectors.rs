//! What a node is, as selectors that entries can name. The type in front of them is the attestor's: `tpm`.

use super::{Appraisal, Evidence, Verdict};
use crate::{
    event_log::{SecureBoot, UKI_PCR, uki_sections},
    ima::Entry,
};

/// The selectors' values, sorted:
///
/// - `policy:NAME`, only if an enforced generation of that policy is met;
/// - `secure_boot:on` if Secure Boot is enforced, else `secure_boot:off`; neither if PCR 7 does not tell;
/// - `pcr:BANK:N:HEX` for each PCR that is proven;
/// - `uki:HEX`, PCR 11 as the stub of a unified kernel image left it, whatever phases the boot went through since;
/// - `ima:proven` if PCR 10 proves a measurement list, and `ima:clean` if it has no violations.
#[must_use]
pub fn selectors(appraisals: &[Appraisal], evidence: &Evidence<'_>) -> Vec<String> {
    let met = appraisals
        .iter()
        .filter(|appraisal| matches!(appraisal.verdict, Verdict::Met(_)));
    let mut selectors: Vec<_> = met
        .map(|appraisal| format!("policy:{}", appraisal.name))
        .collect();
    selectors.extend(secure_boot(evidence).map(str::to_owned));
    let pcrs = evidence
        .values()
        .iter()
        .filter(|(alg, ..)| evidence.algs().any(|bank| bank == *alg));
    selectors.extend(pcrs.map(|(alg, pcr, value)| format!("pcr:{alg}:{pcr}:{value}")));
    selectors.extend(uki(evidence));
    if let Some(list) = evidence.ima() {
        selectors.push("ima:proven".into());
        let is_clean = !list.entries().any(|entry: Entry<'_>| entry.is_violation());
        selectors.extend(is_clean.then(|| "ima:clean".into()));
    }
    selectors.sort();
    selectors.dedup();
    selectors
}

fn secure_boot(evidence: &Evidence<'_>) -> Option<&'static str> {
    let state = SecureBoot::of(evidence.measurements(7)?).ok()?;
    Some(match state.enforced() {
        Ok(_) => "secure_boot:on",
        Err(_) => "secure_boot:off",
    })
}

fn uki(evidence: &Evidence<'_>) -> Option<String> {
    let measurements = evidence.measurements(UKI_PCR)?;
    let _sections = uki_sections(measurements).ok().flatten()?;
    let value = evidence.uki_pcr(measurements.alg())?;
    Some(format!("uki:{value}"))
}
