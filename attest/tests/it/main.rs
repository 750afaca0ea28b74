//! The crate against evidence of real machines; where it comes from is in `testdata/SOURCES.md`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod ek_certificates;
mod ek_chains;
mod ek_keys;
mod ek_leaves;
mod event_logs;
mod fixtures;
mod mutated_logs;
mod tpm;
mod vendor;
