//! The tests that need a TPM, or the whole system.

mod harness;
mod tpm;
mod world;
