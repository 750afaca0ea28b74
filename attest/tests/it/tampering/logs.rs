//! Firmware's event log, under a quote. It says more than PCRs prove, and what they don't prove decides nothing: with
//! those bytes changed it comes to the same PCR values, and teaches the same policy.
//!
//! | bytes | why they don't count |
//! |---|---|
//! | the header but for its banks | says how the log is written, and extends nothing |
//! | type of an event | is for display: digest and data tell what was measured |
//! | data of an event | counts as far as the digest is of it; code and files are not in the log, and what has lost its digest is for display |
//! | all of an event that extends nothing | the locality of the start alone is read, and PCR 0 proves it |
//! | all of an event of a PCR that is not quoted | nothing proves it, so nothing is shown of it |
//! | digest of a bank that is not quoted | as above |
//! | all events at the end that say that firmware ended | kernels before 5.3 lack them: what PCR 5 lacks is tried, and proven all the same |
//! | padding at the end | a log that is read from its buffer has it |

use std::ops::Range;

use attest::{
    HashAlg, PcrSet, PcrValues, Reject, SelectedQuote,
    event_log::{EventLog, Handover, Measurements, Phase, SecureBoot, unlogged_words},
    policy::{Evidence as Shown, Learned, Policy, learn},
};
use swtpm_tests::{Change, Tampered, flipped};

use super::{check, check_all};
use crate::{
    evidence::{Evidence, QUOTED},
    fixtures::{event_log, pcrs},
};

/// What a log comes to: the values, what was measured when, and what policies make of that.
type Facts = (PcrValues, Vec<(u8, Phase, Vec<u8>)>, String);

fn appraise(selected: &SelectedQuote, log: &[u8]) -> Result<Facts, Reject> {
    let log = EventLog::parse(log)?;
    let values = selected.explain(&log, None)?.values().clone();
    let measured = Measurements::verify(log.clone(), HashAlg::Sha256, PcrSet::from_mask(QUOTED).unwrap())?;
    let measured = measured.with_end(&values);
    let of = |pcr: u8| {
        let events = measured.of(pcr).into_iter().flatten();
        let words = unlogged_words(&log, &values, HashAlg::Sha256, pcr).unwrap_or_default();
        let digest = |word: &&str| HashAlg::Sha256.digest(&[word.as_bytes()]).as_bytes().to_vec();
        let unlogged = words.iter().map(move |word| (pcr, Phase::Later, digest(word)));
        let logged = events.map(move |event| (pcr, event.phase, event.digest.to_vec()));
        logged.chain(unlogged)
    };
    let decided = format!("{:?} {:?}", SecureBoot::of(&measured), started(&measured));
    let all = (0..24).flat_map(of).collect();
    Ok((values, all, decided))
}

/// The digests of what firmware started, and whether it ended; or that it does not say.
fn started(measured: &Measurements) -> Option<(Vec<Vec<u8>>, bool)> {
    let handover = Handover::of(measured).ok()?;
    let events = measured
        .of(4)?
        .filter(|event| handover.images.contains(&event.index));
    Some((
        events.map(|event| event.digest.to_vec()).collect(),
        handover.has_ended,
    ))
}

/// The policy that a log teaches: all that could be decided by it.
fn teach(selected: &SelectedQuote, log: &[u8]) -> Result<Policy, Reject> {
    let log = EventLog::parse(log)?;
    let values = selected.explain(&log, None)?.values().clone();
    let shown = Shown::recorded(&values, &log)?;
    let name = "golden".parse().unwrap();
    Ok(learn(&name, 1, &shown, Learned::usual_pins()).policy)
}

const HEADER: &str = "header";
const TYPE: &str = "type";
const REMARK: &str = "data that has no digest, or none any more";
const INFORMATIVE: &str = "extends nothing";
const ENDING: &str = "the end, which is tried";
const PADDING: &str = "padding";
const OTHER_PCR: &str = "PCR that is not quoted";
const OTHER_BANK: &str = "bank that is not quoted";

/// What a byte of a log is, as far as it need not count; and where firmware begins to say that it ended.
struct Map(Vec<(Range<usize>, &'static str)>, Option<usize>);

impl Map {
    fn of(log: &[u8]) -> Self {
        let mut map = Self(vec![(0..header_len(log), HEADER)], None);
        let mut at = header_len(log);
        while at < log.len() {
            at = map.add(log, at);
        }
        map
    }

    /// Adds the event at `start`; says where it ends.
    fn add(&mut self, log: &[u8], start: usize) -> usize {
        let (pcr, kind) = (little(log, start), little(log, start + 4));
        let mut at = start + 12;
        let mut others = Vec::new();
        for _ in 0..little(log, start + 8) {
            let len = match log[at] {
                0x04 => 20,
                0x0b => 32,
                other => panic!("bank {other}"),
            };
            if len != 32 {
                others.push(at + 2..at + 2 + len);
            }
            at += 2 + len;
        }
        let data = at + 4..at + 4 + little(log, at);
        let end = data.end;
        if &log[data.clone()] == b"Exit Boot Services Invocation" {
            self.1 = Some(start);
        }
        if kind == 3 {
            self.0.push((start..end, INFORMATIVE));
        } else if QUOTED & 1 << pcr == 0 {
            self.0.push((start..end, OTHER_PCR));
        } else {
            self.0.push((start + 4..start + 8, TYPE));
            self.0.extend(others.into_iter().map(|other| (other, OTHER_BANK)));
            self.0.push((data, REMARK));
        }
        end
    }

    /// Why a change need not be noticed.
    fn reason(&self, changed: &Tampered) -> Option<&'static str> {
        let of = |at: usize| self.0.iter().find(|(range, _)| range.contains(&at));
        match changed.how {
            Change::Replaced(_) => of(changed.at).map(|(_, reason)| *reason),
            // What follows is nothing that counts, or the end.
            Change::Cut => {
                let ending = self.1.filter(|start| changed.at <= *start);
                let mut rest = self.0.iter().filter(|(range, _)| range.end > changed.at);
                rest.all(|(range, reason)| {
                    range.start >= changed.at
                        && (matches!(*reason, OTHER_PCR | INFORMATIVE)
                            || ending.is_some_and(|ending| range.start >= ending))
                })
                .then_some(if ending.is_some() { ENDING } else { OTHER_PCR })
            }
            Change::Inserted(0) if changed.at + 1 == changed.bytes.len() => Some(PADDING),
            Change::Inserted(_) | Change::Removed => None,
        }
    }
}

fn header_len(log: &[u8]) -> usize {
    32 + little(log, 28)
}

fn little(log: &[u8], at: usize) -> usize {
    u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize
}

/// The same log, with digests of SHA-1 that nobody quotes, and an event that tells the locality.
fn with_sha1(log: &[u8]) -> Vec<u8> {
    let header = header_len(log);
    let mut both = log[..28].to_vec();
    // One bank more, of four bytes.
    both.extend(u32::try_from(little(log, 28) + 4).unwrap().to_le_bytes());
    both.extend(&log[32..56]);
    both.extend([2, 0, 0, 0, 0x04, 0, 20, 0]);
    both.extend(&log[60..header]);
    both.extend([0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0x04, 0]);
    both.extend(
        [
            &[0; 20][..],
            &[0x0b, 0],
            &[0; 32],
            &[17, 0, 0, 0],
            b"StartupLocality\0\0",
        ]
        .concat(),
    );
    let mut at = header;
    while at < log.len() {
        let data = at + 46;
        let end = data + 4 + little(log, data);
        both.extend(&log[at..at + 8]);
        both.extend([2, 0, 0, 0, 0x04, 0]);
        both.extend(HashAlg::Sha1.digest(&[&log[data + 4..end]]).as_bytes());
        both.extend(&log[at + 12..end]);
        at = end;
    }
    both
}

#[test]
fn every_byte_of_a_log_counts_that_pcrs_prove() {
    let values = pcrs("vm-sdboot-type1").values;
    let log = event_log("vm-sdboot-type1.bin");
    let selected = Evidence::over(&values).selected().unwrap();
    let map = Map::of(&log);
    let needed = check(
        &log,
        |log| appraise(&selected, log),
        |changed| map.reason(changed),
    );
    assert_eq!(needed, [ENDING, HEADER, OTHER_PCR, PADDING, REMARK, TYPE].into());
}

/// As many ways as there are bytes: to learn takes long.
#[test]
fn every_byte_of_a_log_with_secure_boot_counts_for_what_is_learned_of_it() {
    let selected = Evidence::over(&pcrs("vm-sb-56c").values).selected().unwrap();
    let log = event_log("vm-sb-56c.bin");
    let map = Map::of(&log);
    let reason = |changed: &Tampered| map.reason(changed);
    let needed = check_all(flipped(&log), &log, |log| teach(&selected, log), reason);
    assert_eq!(needed, [HEADER, OTHER_PCR, REMARK, TYPE].into());
}

#[test]
fn every_byte_of_a_log_of_two_banks_counts_that_pcrs_prove() {
    let values = pcrs("vm-sdboot-type1").values;
    let selected = Evidence::over(&values).selected().unwrap();
    let log = with_sha1(&event_log("vm-sdboot-type1.bin"));
    let map = Map::of(&log);
    let reason = |changed: &Tampered| map.reason(changed);
    let needed = check_all(flipped(&log), &log, |log| appraise(&selected, log), reason);
    assert_eq!(
        needed,
        [HEADER, INFORMATIVE, OTHER_BANK, OTHER_PCR, REMARK, TYPE].into()
    );
}
