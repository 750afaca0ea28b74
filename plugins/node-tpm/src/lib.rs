//! Attests a host by its TPM: that it is one, which one, and what booted on it.
//!
//! ```text
//!   agent                                              server
//!     ── Evidence{hello, quote} ─────────────────────────▶  AK of an enrolled host? verify quote and PCRs: done
//!     ◀── Activate{credential} ───────────────────────────  AK unknown
//!     ── Answer{recovered credential} ───────────────────▶  AK is in the TPM of that EK: whose is it?
//!     ◀── Need{nonce, selection, logs} ───────────────────  another selection, or a log that is not held
//!     ── Answer{new quote, logs} ────────────────────────▶  the log explains the PCRs: done
//!                                                           the kernel's list goes on: Need again
//! ```
//!
//! Where the key of the certificate request is in the TPM, the evidence has the AK's word for it (TPM2_Certify), about
//! the same connection, request and hello.
//!
//! Every quote signs the TLS exporter of the connection, the certificate request and the hello, so evidence is worth
//! nothing elsewhere. The TPM signs once for a host that is known.
//!
//! Agent ID: `spiffe://<trust domain>/spire/agent/tpm/<hash of the endorsement key enrolled first>`.
//!
//! | selector | meaning |
//! |---|---|
//! | `tpm:pub_hash:<hash>` | the TPM has this endorsement key: SHA-256 of its SubjectPublicKeyInfo |
//! | `tpm:svid_key:tpm` | the key of the agent's SVID is in the TPM |
//! | `tpm:ima:proven` | PCR 10 proves what its kernel measured |
//! | `tpm:ima:clean` | and no file changed while it was measured |
//!
//! Not claimed: which program on the host asked; what happened after boot; anything that `SECURITY.md` says a quote
//! can't see.

mod agent;
mod bounds;
mod server;
mod wire;

pub use agent::{Config as AgentConfig, OpenTpm, SvidKey, TpmProver};
pub use server::{Config, CrlPolicy, EventLogs, KernelLists, TpmAttestor, TrustError, TrustProblem};

/// The attestor's name on the wire.
pub const NAME: &str = "tpm";

/// The nonce of a connection's first message: the server gave none.
const NO_NONCE: [u8; 32] = [0; 32];
