//! Whether TPM evidence proves a host, and why not.
//!
//! This crate decides and never acts: evidence, `now` and what the server remembers come in as arguments,
//! proofs go out. It has no socket, file, clock or TPM library. The one exception to "no randomness" is
//! [`credential`], whose encryption draws its own.
//!
//! A check never returns a `bool`. Each step takes the proof of the step before, so none can be left out:
//!
//! ```text
//!   EK certificate + roots, or an enrolled hash ──▶ VerifiedEk
//!   VerifiedEk + AK + recovered credential ───────▶ VerifiedAk
//!   VerifiedAk + quote + binding ─────────────────▶ VerifiedQuote
//!   VerifiedQuote + wanted selection ─────────────▶ SelectedQuote
//!   SelectedQuote + event log ────────────────────▶ VerifiedPcrs
//!   quoted PCRs + measurement list ───────────────▶ ProvenList
//!   VerifiedPcrs + event log + reference values ──▶ Appraisal
//! ```
//!
//! Evidence that other software captured, by keys of other templates, is looked at by [`CapturedQuote`]; it lets no
//! host in.

mod ak;
mod alg;
mod binding;
mod captured;
mod certify;
mod continuity;
pub mod credential;
pub mod ek;
pub mod event_log;
pub mod ima;
mod name;
mod pcr;
mod pcr_file;
pub mod policy;
mod quote;
mod reject;
pub mod report;
mod signing;
mod statement;
mod strength;
pub mod uki;
pub mod wire;

pub use ak::{AttestationKey, VerifiedAk};
pub use alg::{Digest, HashAlg};
pub use binding::{Binding, EvidenceKind, hello_digest};
pub use captured::{CapturedKey, CapturedQuote, SignedQuote};
pub use certify::{Certification, CertifiedKey};
pub use continuity::{Continuity, Standing};
pub use name::Name;
pub use pcr::{PcrSelection, PcrSelectionError, PcrSet, PcrValues};
pub use pcr_file::PcrFileError;
pub use quote::{Quote, SelectedQuote, VerifiedPcrs, VerifiedQuote};
pub use reject::{Part, Reject};
