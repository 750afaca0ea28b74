//! Attests an agent by a token that an operator generated for it. The token is good once; the agent it attests
//! renews its SVID by RenewAgent, with a key that it keeps in a file.
//!
//! Agent ID: `spiffe://<trust domain>/spire/agent/join_token/<token>`. Selectors: none.

mod agent;
mod server;

pub use agent::JoinTokenProver;
pub use server::{Config, JoinTokenAttestor};

/// The attestor's name on the wire.
pub const NAME: &str = "join_token";
