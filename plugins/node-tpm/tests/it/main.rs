//! Both sides of the plugin against each other, in memory: a prover on a TPM in software, and the attestor.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod accepted;
mod banks;
mod flipped;
mod kernel;
mod logless;
mod policies;
mod refused;
mod rounds;
mod sealing;
mod sessions;
mod svid_keys;
mod tpm;
mod trust;
