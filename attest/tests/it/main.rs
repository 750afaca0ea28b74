//! The crate against evidence of real machines, and against what no TPM or vendor would make. Where the
//! former comes from is in `testdata/SOURCES.md`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod captured_forms;
mod captured_quotes;
mod certified_keys;
mod checks;
mod ek_chains;
mod ek_crls;
mod ek_keys;
mod ek_leaves;
mod ek_vendors;
mod event_logs;
mod evidence;
mod fixtures;
mod ima_lists;
mod log_reports;
mod mutated_evidence;
mod mutated_logs;
mod platforms;
mod policies;
mod quoted_pcrs;
mod quotes;
mod tampering;
mod testdata;
mod uki_boots;

use swtpm_tests::{platform, structures as tpm, vendor};
