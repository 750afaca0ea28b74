//! What a node is, as selectors that entries can name. The type in front of them is the attestor's: `tpm`.

use super::{Appraisal, Evidence, Judgement};
use crate::{event_log::SecureBoot, ima::Entry};

/// The selectors' values, sorted:
///
/// - `policy:NAME`, only if an enforced generation of that policy is met;
/// - `secure_boot:on` if Secure Boot is enforced, else `secure_boot:off`; neither if PCR 7 does not tell;
/// - `pcr:BANK:N:HEX` for each PCR that is proven;
/// - `uki:HEX`, the Authenticode digest of the unified kernel image that booted, if the generation that is met names it:
///   PCR 11 alone does not prove one, since anybody can extend it later;
/// - `ima:proven` if PCR 10 proves a measurement list, and `ima:clean` if it has no violations.
#[must_use]
pub fn selectors(appraisals: &[Appraisal], evidence: &Evidence<'_>) -> Vec<String> {
    let met = appraisals
        .iter()
        .filter_map(|appraisal| Some((appraisal, appraisal.met()?)));
    let of_policy = |(appraisal, judgement): (&Appraisal, &Judgement)| {
        let uki = judgement.kernel_image.map(|image| format!("uki:{image}"));
        std::iter::once(format!("policy:{}", appraisal.name)).chain(uki)
    };
    let mut selectors: Vec<_> = met.flat_map(of_policy).collect();
    selectors.extend(secure_boot(evidence).map(str::to_owned));
    let pcrs = evidence
        .values()
        .iter()
        .filter(|(alg, ..)| evidence.algs().any(|bank| bank == *alg));
    selectors.extend(pcrs.map(|(alg, pcr, value)| format!("pcr:{alg}:{pcr}:{value}")));
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
