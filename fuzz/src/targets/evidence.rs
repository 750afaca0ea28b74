//! All that a host with a TPM proves, in one input: attestation key, statement, signature, event log. Whatever is
//! changed of good evidence, it is refused or proves the same.

use std::sync::LazyLock;

use attest::{
    AttestationKey, Binding, EvidenceKind, HashAlg, PcrSelection, Quote, Reject, VerifiedPcrs,
    event_log::EventLog,
};

use crate::parts::Parts;

/// Evidence by a key whose private half was thrown away: nobody signs anything else with it.
const GOOD: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/evidence/good"));

/// What the good evidence is about.
pub const BINDING: Binding<'static> = Binding {
    kind: EvidenceKind::Attest,
    exporter: &[1; 32],
    nonce: &[2; 32],
    csr: b"csr",
    hello: &HELLO,
};

/// SHA-256 of `hello`.
const HELLO: [u8; 32] = [
    0x2c, 0xf2, 0x4d, 0xba, 0x5f, 0xb0, 0xa3, 0x0e, 0x26, 0xe8, 0x3b, 0x2a, 0xc5, 0xb9, 0xe2, 0x9e, 0x1b,
    0x16, 0x1e, 0x5c, 0x1f, 0xa7, 0x42, 0x5e, 0x73, 0x04, 0x33, 0x62, 0x93, 0x8b, 0x98, 0x24,
];

/// Verifies evidence as a server does that knows the good evidence's key.
///
/// # Errors
///
/// The first check that fails.
pub fn verify(bytes: &[u8]) -> Result<VerifiedPcrs, Reject> {
    let mut parts = Parts::new(bytes);
    let known = AttestationKey::parse(Parts::new(GOOD).part())?;
    let ak = AttestationKey::parse(parts.part())?.remembered(known.public())?;
    let (statement, signature) = (parts.part(), parts.part());
    let log = parts.rest();
    let wanted = PcrSelection::new(vec![(HashAlg::Sha256, (0..=7).collect())])
        .map_err(|error| Reject::Malformed(attest::Part::Statement, error))?;
    let quote = Quote::parse(statement, signature)?.verify(&ak, &BINDING)?;
    quote.over(&wanted)?.explain(&EventLog::parse(log)?, None)
}

/// Nothing but the good evidence's PCRs is ever proven.
pub fn run(bytes: &[u8]) {
    static PROVEN: LazyLock<Result<VerifiedPcrs, Reject>> = LazyLock::new(|| verify(GOOD));
    assert!(PROVEN.is_ok(), "the good evidence is refused: {:?}", *PROVEN);
    let proven = verify(bytes);
    assert!(proven.is_err() || proven == *PROVEN, "something else is proven");
}
