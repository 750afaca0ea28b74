//! The tests that need a TPM.

mod harness;
mod tpm;
