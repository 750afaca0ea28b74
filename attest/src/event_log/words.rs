//! What PCRs are extended by without that it is in this log: fixed words, of systemd and of firmware as it ends, which can be
//! tried after what the log tells (checks 46, 52 and 53). Anybody could extend them, so that they are there proves nothing; but nothing hides in them.

use super::{
    EventLog, UKI_PCR, boot_phases,
    uki::{after, is_uki, ways as phase_ways},
};
use crate::{HashAlg, PcrSelection, PcrSet, PcrValues};

/// Words, in the order in which a PCR is extended by them.
pub type Words = &'static [&'static str];

/// What parts firmware's measurements from those of the system, since systemd 261 (systemd-pcrosseparator.service(8)).
const OS: &str = "os-separator";
/// What follows the first values of TPM indices that systemd uses as PCRs, since systemd 259 (systemd-pcrnvdone.service(8)).
const NVPCR: &str = "nvpcr-separator";
const NVPCR_PCR: u8 = 9;
/// The PCRs that the first one goes into.
const SEPARATED: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14];

/// What firmware measures as it ends. Linux before 5.3 read the log before that.
pub(super) const ENDED: Words = &[EXIT, EXITED];
pub(super) const EXIT: &str = "Exit Boot Services Invocation";
pub(super) const EXITED: &str = "Exit Boot Services Returned with Success";
const ENDED_PCR: u8 = 5;

/// The words that `pcr` was extended by after what `log` says of it, if `pcrs` are proven and these are what is missing: none
/// at all, or some of systemd's or firmware's.
#[must_use]
pub fn unlogged_words(log: &EventLog, pcrs: &PcrValues, alg: HashAlg, pcr: u8) -> Option<Words> {
    if pcr == UKI_PCR {
        return boot_phases(log, pcrs, alg);
    }
    let proven = pcrs.get(alg, pcr)?;
    let set: PcrSet = [pcr].into_iter().collect();
    let selection = PcrSelection::new(vec![(alg, set)]).ok()?;
    let replayed = log.replay_of(alg, set).ok()?.select(&selection);
    let start = replayed.get(alg, pcr)?;
    let mut ways = std::iter::once(<Words>::default()).chain(ways(pcr, log));
    ways.find(|words| after(alg, *start, words) == *proven)
}

/// `pcrs` as they were before systemd extended words that are not in `log`: what a kernel saw that measured them as it began.
#[must_use]
pub fn before_words(log: &EventLog, pcrs: &PcrValues) -> PcrValues {
    let mut earlier = pcrs.clone();
    for (alg, pcr, _) in pcrs.iter() {
        let is_later =
            unlogged_words(log, pcrs, alg, pcr).is_some_and(|words| !words.is_empty() && words != ENDED);
        let replayed = is_later.then(|| log.replay_of(alg, [pcr].into_iter().collect()));
        let selection = PcrSelection::new(vec![(alg, [pcr].into_iter().collect())]).unwrap_or_default();
        if let Some(Ok(replayed)) = replayed
            && let Some(value) = replayed.select(&selection).get(alg, pcr)
        {
            earlier.set(alg, pcr, *value);
        }
    }
    earlier
}

/// All words that may be missing of a PCR, but for none.
fn ways(pcr: u8, log: &EventLog) -> Vec<Words> {
    match pcr {
        UKI_PCR if is_uki(log) => phase_ways().collect(),
        // No kernel so old runs a systemd that extends separators.
        ENDED_PCR if !tells_end(log) => vec![&[OS], ENDED],
        NVPCR_PCR => vec![&[OS], &[NVPCR], &[OS, NVPCR]],
        _ if SEPARATED.contains(&pcr) => vec![&[OS]],
        _ => Vec::new(),
    }
}

/// Whether the log has what firmware measures as it ends, or as it fails to.
fn tells_end(log: &EventLog) -> bool {
    let is_end = |(alg, digest): (HashAlg, &[u8])| {
        let mut texts = [EXIT, EXITED].iter();
        texts.any(|text| alg.digest(&[text.as_bytes()]).as_bytes() == digest)
    };
    let mut events = log.events().filter(|event| event.pcr == ENDED_PCR);
    events.any(|event| event.digests.iter().any(is_end))
}

/// What `replayed` may have become, where all PCRs are at the same point of a boot.
pub(super) fn completions(selection: &PcrSelection, replayed: &PcrValues, log: &EventLog) -> Vec<PcrValues> {
    let has = |pcr: u8| selection.banks().any(|(_, set)| set.contains(pcr));
    let of = |pcr: u8| if has(pcr) { ways(pcr, log) } else { Vec::new() };
    let none = || std::iter::once(<Words>::default());
    let phases: Vec<_> = none().chain(of(UKI_PCR)).collect();
    let nvpcr: Vec<_> = none().chain(of(NVPCR_PCR)).collect();
    // PCR 9 tells whether there is a separator; without it, any of the others does.
    let others: &[bool] = match has(NVPCR_PCR) {
        true => &[],
        false if SEPARATED.iter().any(|pcr| has(*pcr)) => &[false, true],
        false => &[false],
    };
    let mut found = Vec::new();
    for phases in phases {
        for words in &nvpcr {
            let separated = others
                .iter()
                .copied()
                .chain(has(NVPCR_PCR).then(|| words.contains(&OS)));
            for is_separated in separated {
                found.push(complete(selection, replayed, |pcr| match pcr {
                    UKI_PCR => phases,
                    NVPCR_PCR => words,
                    _ if is_separated && SEPARATED.contains(&pcr) => &[OS],
                    _ => &[],
                }));
            }
        }
        if of(ENDED_PCR).contains(&ENDED) {
            found.push(complete(selection, replayed, |pcr| match pcr {
                UKI_PCR => phases,
                ENDED_PCR => ENDED,
                _ => &[],
            }));
        }
    }
    // The first is `replayed`.
    found.split_off(1.min(found.len()))
}

/// What `replayed` became if `claimed` is right, each PCR by itself: those that no words explain are as the log left them.
pub(super) fn nearest(
    selection: &PcrSelection,
    replayed: &PcrValues,
    claimed: &PcrValues,
    log: &EventLog,
) -> PcrValues {
    let mut values = replayed.clone();
    for (alg, pcr, start) in replayed.select(selection).iter() {
        let mut words = ways(pcr, log).into_iter();
        let claim = claimed.get(alg, pcr).filter(|claim| *claim != start);
        if let Some(claim) = claim.filter(|claim| words.any(|words| after(alg, *start, words) == **claim)) {
            values.set(alg, pcr, *claim);
        }
    }
    values
}

fn complete(selection: &PcrSelection, replayed: &PcrValues, words: impl Fn(u8) -> Words) -> PcrValues {
    let mut values = replayed.clone();
    for (alg, pcr, start) in replayed.select(selection).iter() {
        values.set(alg, pcr, after(alg, *start, words(pcr)));
    }
    values
}
