//! Every code of a refusal, with the checks that it is of.

use std::collections::BTreeSet;

/// Checks, code, and where a test sees the refusal.
const CODES: &[(&str, &[u8])] = &[];

#[test]
fn todo() {
    let _ = (CODES, BTreeSet::<u8>::new());
}
