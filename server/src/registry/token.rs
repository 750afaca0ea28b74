//! Join tokens: secrets that attest one agent, once.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use svid::Timestamp;

/// SHA-256 of a token: the token itself is not kept.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Of a token's text.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let hash = digest(&SHA256, token.as_bytes());
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A token that was not used yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JoinToken {
    /// When it ends.
    pub expires_at: Timestamp,
}
