//! What a plugin of each kind must do. Both sides of a plugin live in one folder; see `plugins/README.md`.
//!
//! | kind | trait | runs in |
//! |---|---|---|
//! | node attestor | [`NodeAttestor`] | server: bytes in, [`Step`] out, never any I/O |
//! | node prover | [`NodeProver`] | agent: may use a [`TpmDevice`] |
//! | workload attestor | [`WorkloadAttestor`] | agent: reads what the kernel says of a process |
//! | key manager | [`KeyManager`] | server: keeps the keys that sign |
//! | upstream authority | [`UpstreamAuthority`] | server: signs its authorities, where they are no roots |

mod host;
mod keys;
mod node;
mod policy;
mod prover;
mod sealing;
mod software;
mod tpm;
mod upstream;
mod verdict;
mod workload;

pub use host::{
    Alarm, Appraised, EnrolledEk, Enrolment, Host, HostClaim, KernelList, KnownLog, Newcomer, Proposal,
    SvidKeyPlace,
};
pub use keys::{KeyError, KeyKind, KeyManager, Signer};
pub use node::{
    Asked, Attested, Claim, Context, Expect, ExpectEvidence, Grown, JoinToken, NodeAttestor, Records,
    Refusal, RefusalKind, Round, SessionBinding, Step,
};
pub use policy::{HostPolicies, ListFindings, Outcome, PolicyJudgement, PolicyNotMet, PolicyStanding, Shown};
pub use prover::{Binding, HostKey, NodeProver, ProverError};
pub use sealing::{Sealed, SealedKey, Sealing};
pub use software::SoftwareKey;
pub use tpm::{Activation, RawCertification, RawQuote, TpmDevice, TpmEk, TpmError, TpmIdentity, TpmKey};
pub use upstream::{Certified, UpstreamAuthority, UpstreamError};
pub use verdict::{Finding, HostEvent, Offence, Staleness, Verdict};
pub use workload::{Process, WorkloadAttestError, WorkloadAttestor};
