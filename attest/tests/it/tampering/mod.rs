//! Evidence of each kind, with each of its bytes changed in every way: it is refused, or the byte is one that proves
//! nothing, and then it comes to the very same.
//!
//! | evidence | keys | bytes that don't count |
//! |---|---|---|
//! | endorsement certificate, and those sent along | RSA, ECC | tags around what is signed; what pads it in NV memory |
//! | endorsement key, attestation key, answer to a credential | RSA, ECC | none |
//! | quote: TPMS_ATTEST, TPMT_SIGNATURE | ECC; of other templates RSA in three schemes, P-384 | none |
//! | firmware's event log | | what no digest of a quoted bank is of: see [`logs`] |
//! | kernel's measurement list | | what is said of a violation: see [`lists`] |
//! | certification of an SVID's key, and that key | ECC | none |
//!
//! Hello, certificate request and the messages as a whole are with the conversation: `plugins/node-tpm/tests/it/flipped.rs`.

mod certificates;
mod certifications;
mod keys;
mod lists;
mod logs;
mod quotes;

use std::{collections::BTreeSet, fmt::Debug};

use attest::Reject;
use swtpm_tests::{Tampered, tampered};

/// Changes `good` in every way. Each change is refused, or comes to the same; then `reason` says why that is no harm.
/// Answers with the reasons that were needed.
fn check<Facts: Debug + PartialEq>(
    good: &[u8],
    appraise: impl Fn(&[u8]) -> Result<Facts, Reject>,
    reason: impl Fn(&Tampered) -> Option<&'static str>,
) -> BTreeSet<&'static str> {
    check_all(tampered(good), good, appraise, reason)
}

/// The same with these changes.
fn check_all<Facts: Debug + PartialEq>(
    changes: impl Iterator<Item = Tampered>,
    good: &[u8],
    appraise: impl Fn(&[u8]) -> Result<Facts, Reject>,
    reason: impl Fn(&Tampered) -> Option<&'static str>,
) -> BTreeSet<&'static str> {
    let proven = appraise(good).unwrap();
    let (mut reasons, mut unnoticed) = (BTreeSet::new(), Vec::new());
    for changed in changes {
        let Ok(facts) = appraise(&changed.bytes) else {
            continue;
        };
        assert!(facts == proven, "{changed:?} proves {facts:?}");
        match reason(&changed) {
            Some(reason) => {
                reasons.insert(reason);
            }
            None => unnoticed.push(changed),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
    reasons
}

/// No change is accepted.
fn every_byte_counts<Facts: Debug + PartialEq>(
    good: &[u8],
    appraise: impl Fn(&[u8]) -> Result<Facts, Reject>,
) {
    let needed = check(good, appraise, |_| None);
    assert!(needed.is_empty());
}
