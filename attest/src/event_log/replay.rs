//! Whether a log explains PCRs: its events are extended anew, and the result is compared with the quote.

use std::iter;

use super::{
    EventLog, Measurements, UKI_PCR,
    event::EventKind,
    record::{Record, Records},
    words::{completions, nearest},
};
use crate::{Digest, HashAlg, PcrSelection, PcrSet, PcrValues, Reject};

/// The PCRs of `selection` as `log` explains them, if a quote over them holds `pcr_digest`, made with `hash`.
/// In PCR 11 systemd extends each [phase](super::PHASES) of the boot without telling the log, and its separators in others:
/// known words are tried. `claimed` are the values that the prover read: they only serve to say which of them are there, and
/// which PCR is not explained.
///
/// # Errors
///
/// [`Reject::LogBank`] and [`Reject::LogBanks`] as [`EventLog::replay`], [`Reject::PcrSelection`] if nothing
/// is selected. If the digest is another one: [`Reject::LogMismatch`] with the first PCR that differs,
/// [`Reject::PcrDigest`] if `claimed` does not have it either, [`Reject::LogUnexplained`] without `claimed`.
pub fn explain(
    selection: &PcrSelection,
    pcr_digest: &[u8],
    hash: HashAlg,
    claimed: Option<&PcrValues>,
    log: &EventLog,
) -> Result<PcrValues, Reject> {
    explain_beside(selection, pcr_digest, hash, claimed, log, PcrSet::default())
}

/// The same, where PCRs of `unlogged` may hold what programs measured without telling the log: of those that no event
/// of the log extends, the values are `claimed`, which the quote's digest proves.
///
/// # Errors
///
/// As [`explain`].
pub fn explain_beside(
    selection: &PcrSelection,
    pcr_digest: &[u8],
    hash: HashAlg,
    claimed: Option<&PcrValues>,
    log: &EventLog,
    unlogged: PcrSet,
) -> Result<PcrValues, Reject> {
    if selection.is_empty() {
        return Err(Reject::PcrSelection);
    }
    let replayed = replay_beside(selection, log, claimed, unlogged)?;
    let is_signed = |values: &PcrValues| values.digest(selection, hash).as_bytes() == pcr_digest;
    if is_signed(&replayed) {
        return Ok(replayed);
    }
    let nearest = claimed.map(|claimed| nearest(selection, &replayed, claimed, log));
    if let Some(nearest) = nearest.as_ref().filter(|values| is_signed(values)) {
        return Ok(nearest.clone());
    }
    let mut completions = completions(selection, &replayed, log).into_iter();
    if let Some(signed) = completions.find(is_signed) {
        return Ok(signed);
    }
    let Some(claimed) = claimed else {
        return Err(Reject::LogUnexplained);
    };
    if !is_signed(claimed) {
        return Err(Reject::PcrDigest);
    }
    // What another PCR is refused for must not be put down to words that the log lacks.
    Err(mismatch(
        selection,
        claimed,
        nearest.as_ref().unwrap_or(&replayed),
    ))
}

/// What `log` may have left in the PCRs of `selection`, if it is one of firmware that measures (46, 48, 49, 54); several
/// where words of systemd are not in it, as they may be there, and first without any. Of PCRs of `unlogged` the values are `claimed`, as in [`explain_beside`]. Proves
/// nothing: for a quote that something else has to explain as well.
///
/// # Errors
///
/// [`Reject::LogBank`] and [`Reject::LogBanks`] as [`EventLog::replay`], and what [`Measurements::verify`] refuses.
pub fn replays(
    selection: &PcrSelection,
    claimed: Option<&PcrValues>,
    log: &EventLog,
    unlogged: PcrSet,
) -> Result<Vec<PcrValues>, Reject> {
    for (alg, set) in selection.banks().filter(|(alg, _)| *alg != HashAlg::Sha1) {
        Measurements::verify(log.clone(), alg, set)?;
    }
    let replayed = replay_beside(selection, log, claimed, unlogged)?;
    let mut ways = vec![replayed.clone()];
    let Some(claimed) = claimed else {
        ways.extend(completions(selection, &replayed, log));
        return Ok(ways);
    };
    // Phases go on between quote and reading; what else there is of words is there before any list is asked for.
    let nearest = nearest(selection, &replayed, claimed, log);
    let of_uki = selection.banks().filter(|(_, set)| set.contains(UKI_PCR));
    let of_uki = of_uki.map(|(alg, _)| (alg, [UKI_PCR].into_iter().collect()));
    if let Ok(phases) = PcrSelection::new(of_uki.collect()) {
        let begun = nearest.with(&replayed.select(&phases));
        ways.extend(completions(&phases, &begun, log));
        ways.insert(1, begun);
    }
    ways.insert(1, nearest);
    ways.dedup();
    Ok(ways)
}

fn replay_beside(
    selection: &PcrSelection,
    log: &EventLog,
    claimed: Option<&PcrValues>,
    unlogged: PcrSet,
) -> Result<PcrValues, Reject> {
    let mut replayed = replay(selection, log)?;
    let is_beside = |pcr: u8| unlogged.contains(pcr) && log.events().all(|event| event.pcr != pcr);
    let claims = claimed.map(|values| values.select(selection)).unwrap_or_default();
    for (alg, pcr, value) in claims.iter().filter(|(_, pcr, _)| is_beside(*pcr)) {
        replayed.set(alg, pcr, *value);
    }
    Ok(replayed)
}

fn replay(selection: &PcrSelection, log: &EventLog) -> Result<PcrValues, Reject> {
    let mut replayed = PcrValues::default();
    for (alg, set) in selection.banks() {
        for (alg, index, value) in log.replay_of(alg, set)?.iter() {
            replayed.set(alg, index, *value);
        }
    }
    // What is not quoted is not proven, so it is not shown.
    Ok(replayed.select(selection))
}

/// The first PCR of the selection that differs.
fn mismatch(selection: &PcrSelection, claimed: &PcrValues, replayed: &PcrValues) -> Reject {
    let claimed = claimed.select(selection);
    selection
        .banks()
        .flat_map(|(alg, set)| set.iter().map(move |index| (alg, index)))
        .find(|(alg, index)| claimed.get(*alg, *index) != replayed.get(*alg, *index))
        .map_or(Reject::LogUnexplained, |(alg, index)| {
            Reject::LogMismatch(alg, index)
        })
}

impl EventLog {
    /// The PCRs of a bank as its events leave them. PCRs that none extends are left out, but for PCR 0.
    ///
    /// Each event must have a digest of the bank, or else the log tells what the PCRs do not prove (check 54,
    /// PFP 1.04 §9.1). It need not have one of each bank that the log declares: Windows extends some of them
    /// only, and the replay of the others fails by this rule.
    ///
    /// # Errors
    ///
    /// [`Reject::LogBank`] if the log has no such bank, [`Reject::LogBanks`] if an event has no digest of it.
    pub fn replay(&self, alg: HashAlg) -> Result<PcrValues, Reject> {
        self.replay_of(alg, (0..PcrSet::COUNT).collect())
    }

    /// The same of `pcrs` alone: events of others are not looked at.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay), for the events of these PCRs.
    pub fn replay_of(&self, alg: HashAlg, pcrs: PcrSet) -> Result<PcrValues, Reject> {
        if self.banks().all(|bank| bank != alg) {
            return Err(Reject::LogBank(alg));
        }
        let mut values = PcrValues::default();
        if pcrs.contains(0) {
            values.set(alg, 0, self.initial_pcr0(alg));
        }
        for event in self.events().filter(|event| pcrs.contains(event.pcr)) {
            let digest = event.digests.of(alg).ok_or(Reject::LogBanks(event.index))?;
            values.extend(alg, event.pcr, digest);
        }
        Ok(values)
    }

    /// PCR 0 begins with the locality from which the TPM was started (TPM 2.0 Library, Part 1 §17).
    fn initial_pcr0(&self, alg: HashAlg) -> Digest {
        iter::repeat_n(0, alg.digest_len() - 1)
            .chain([self.startup_locality])
            .collect()
    }
}

/// What the data of the event begins with that tells the locality (PFP 1.04 §9.4.5.3). The locality follows, and where
/// firmware has one length for all events, as coreboot, zeros do.
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
/// What PCR 0 begins with after an H-CRTM event.
const LOCALITY_HCRTM: u8 = 4;

/// The locality from which the TPM was started: 0 if no event tells another one, 4 if an H-CRTM was measured
/// before the start. All records are read.
pub(super) fn startup_locality(records: &mut Records<'_>) -> Result<u8, Reject> {
    let mut told = None;
    let mut hcrtm = false;
    for record in records {
        let record = record?;
        hcrtm |= record.extended() == Some(0) && record.kind == EventKind::EFI_HCRTM_EVENT;
        let locality = locality(&record)?;
        // Some firmware tells it twice.
        if locality.is_some() && told.is_some() && locality != told {
            return Err(Reject::LogMalformed);
        }
        told = told.or(locality);
    }
    Ok(if hcrtm { LOCALITY_HCRTM } else { told.unwrap_or(0) })
}

fn locality(record: &Record<'_>) -> Result<Option<u8>, Reject> {
    if record.kind != EventKind::NO_ACTION || record.pcr != 0 {
        return Ok(None);
    }
    match record.data.strip_prefix(STARTUP_LOCALITY) {
        None => Ok(None),
        Some([locality @ (0 | 3 | LOCALITY_HCRTM), fill @ ..]) if fill.iter().all(|byte| *byte == 0) => {
            Ok(Some(*locality))
        }
        Some(_) => Err(Reject::LogMalformed),
    }
}
