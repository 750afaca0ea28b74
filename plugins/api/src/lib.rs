//! What a plugin of each kind must do. Both sides of a plugin live in one folder; see `plugins/README.md`.
//!
//! | kind | trait | runs in |
//! |---|---|---|
//! | node prover | [`NodeProver`] | agent: may use a [`TpmDevice`] |
//! | workload attestor | [`WorkloadAttestor`] | agent: reads what the kernel says of a process |
//! | key manager | [`KeyManager`] | server: keeps the keys that sign |

mod keys;
mod prover;
mod tpm;
mod workload;

pub use keys::{KeyError, KeyKind, KeyManager, Signer};
pub use prover::{Binding, NodeProver, ProverError};
pub use tpm::{Activation, RawQuote, TpmDevice, TpmEk, TpmError, TpmIdentity};
pub use workload::{Process, WorkloadAttestError, WorkloadAttestor};
