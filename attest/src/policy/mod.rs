//! Reference values: what a host may have booted, written down by an operator, named and versioned.
//!
//! ```text
//!   TOML ──▶ Policy::parse ─────────▶ Policy ──▶ GenerationId      SHA-256 of its canonical form
//!                                       │        PolicyKey::verify  a detached signature over that form
//!                                       ▼
//!   VerifiedPcrs, EventLog ──▶ Evidence ──▶ appraise ──▶ Appraisal  met, or what differs: expected, found, which event
//!                                       │                   └─▶ selectors of the node
//!                                       ├──▶ learn               a policy that the evidence of a golden host meets
//!                                       └──▶ would_fall_out      the hosts that a candidate would refuse
//! ```
//!
//! Decided is over what a quote and a replayed log prove, never over what a log merely says: see
//! [`event_log`](crate::event_log). Types of events are in differences for whoever reads them, and nowhere else.
//!
//! Each rule fails closed: a PCR that a rule needs and the quote does not cover is a difference, and so is an event
//! that a rule does not know. A list that is empty lets nothing pass; a rule that is left out is not asked.

mod appraise;
mod boot_rule;
mod command_line;
mod diff;
mod difference;
mod evidence;
mod fall_out;
mod firmware_rule;
mod generation;
mod ima_rule;
mod initrd_rule;
mod kernel_image;
mod key_rule;
mod learn;
mod model;
mod parse;
mod pcr_rule;
mod predict;
mod reference;
mod sbat_rule;
mod selectors;
mod signature;
mod statements;
mod text;

pub use appraise::{Appraisal, Judgement, Verdict, appraise, judge, judge_entries};
pub use boot_rule::{BootRule, Chain};
pub use command_line::CommandLineRule;
pub use diff::{Change, diff};
pub use difference::{Difference, DifferenceKind, Differences, EventPlace};
pub use evidence::Evidence;
pub use fall_out::would_fall_out;
pub use firmware_rule::{Release, TpmRule};
pub use generation::{Generation, GenerationId, Generations, GenerationsError, Stage};
pub use ima_rule::{ImaKey, ImaRule, Violations};
pub use initrd_rule::InitrdRule;
pub use kernel_image::Uki;
pub use key_rule::{KeyRule, SecureBootRule};
pub use learn::{Learned, learn};
pub use model::{Policy, PolicyName};
pub use parse::PolicyError;
pub use pcr_rule::PcrRule;
pub use reference::{KeyReference, Reference, ReferenceError};
pub use sbat_rule::SbatRule;
pub use selectors::selectors;
pub use signature::{PolicyKey, SignatureError, SignedPolicy};
pub use statements::statements;
