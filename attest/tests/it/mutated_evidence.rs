//! Evidence that was changed on the way: it is refused, or proves the same as before.

use std::collections::BTreeSet;

use attest::{HashAlg, PcrSet, Reject, VerifiedPcrs, event_log::EventLog};

use crate::evidence::{Evidence, QUOTED};

/// Each byte of a log would take long.
const STEP: usize = 7;
/// Nor is it cut at each.
const CUT_STEP: usize = 31;

type Part = fn(&mut Evidence) -> &mut Vec<u8>;

const PARTS: [(&str, Part); 3] = [
    ("attestation key", |evidence| &mut evidence.ak),
    ("statement", |evidence| &mut evidence.statement),
    ("signature", |evidence| &mut evidence.signature),
];

#[test]
fn every_bit_of_key_statement_and_signature_counts() {
    let good = Evidence::good();
    assert!(good.verify().is_ok());
    for (name, part) in PARTS {
        let len = part(&mut good.clone()).len();
        for (at, bit) in (0..len).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = good.clone();
            part(&mut changed)[at] ^= 1_u8 << bit;
            assert!(changed.verify().is_err(), "bit {bit} of byte {at} of the {name}");
        }
    }
}

#[test]
fn key_statement_and_signature_are_whole() {
    let good = Evidence::good();
    for (name, part) in PARTS {
        let len = part(&mut good.clone()).len();
        let cut = (0..len).map(|len| {
            let mut cut = good.clone();
            part(&mut cut).truncate(len);
            cut
        });
        let mut long = good.clone();
        part(&mut long).push(0);
        for changed in cut.chain([long]) {
            let refused = changed.verify();
            assert!(
                matches!(refused, Err(Reject::Malformed(..))),
                "{name}: {refused:?}"
            );
        }
    }
}

/// The quote covers the digests of its bank and PCRs, and thereby the data that these are of. It does not
/// cover digests of other banks, events of other PCRs, what events are called, the data of those whose digest
/// is of something else, and the log's header.
#[test]
fn a_changed_log_is_refused_or_proves_the_same() {
    let good = Evidence::good();
    let proven = good.verify().unwrap();
    let mut same = 0_u32;
    for at in (0..good.log.len()).step_by(STEP) {
        let mut changed = good.clone();
        changed.log[at] ^= 0x10;
        same += u32::from(is_same(&proven, &changed, at));
    }
    assert!(same > 0, "some bytes are not covered");
}

#[test]
fn every_digest_of_the_quoted_bank_counts() {
    let good = Evidence::good();
    for at in covered(&good.log).into_iter().step_by(STEP) {
        let mut changed = good.clone();
        changed.log[at] ^= 1;
        assert_eq!(
            changed.verify().map(drop),
            Err(Reject::LogUnexplained),
            "byte {at}"
        );
    }
}

#[test]
fn a_cut_log_is_refused_or_proves_the_same() {
    let good = Evidence::good();
    let proven = good.verify().unwrap();
    for len in (0..good.log.len()).step_by(CUT_STEP) {
        let mut cut = good.clone();
        cut.log.truncate(len);
        is_same(&proven, &cut, len);
    }
}

/// Whether changed evidence still proves something; it must not be anything else.
fn is_same(proven: &VerifiedPcrs, changed: &Evidence, at: usize) -> bool {
    match changed.verify() {
        Ok(other) => {
            assert_eq!(other, *proven, "byte {at}");
            true
        }
        Err(_) => false,
    }
}

/// Where digests of the quoted bank and PCRs stand in a log.
fn covered(bytes: &[u8]) -> BTreeSet<usize> {
    let quoted = PcrSet::from_mask(QUOTED).unwrap();
    let log = EventLog::parse(bytes).unwrap();
    let digests: BTreeSet<Vec<u8>> = log
        .events()
        .filter(|event| quoted.contains(event.pcr))
        .map(|event| event.digests.of(HashAlg::Sha256).unwrap().to_vec())
        .collect();
    let windows = bytes.windows(32).enumerate();
    windows
        .filter(|(_, window)| digests.contains(*window))
        .flat_map(|(at, _)| at..at + 32)
        .collect()
}
