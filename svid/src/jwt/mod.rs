//! JWT-SVIDs: what a token says, issuing, verification.
//! <https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md>
//!
//! ```text
//!   Claims ──(signing key)──▶ token        token ──▶ JwtSvid ──(Bundle, audience, now)──▶ VerifiedJwt
//! ```

mod audience;
mod jws;
mod mint;
mod token;
mod verify;

pub use audience::{Audience, AudienceError};
pub use jws::{Algorithm, JwsError};
pub use mint::{Claims, MintError, sign};
pub use token::{JwtSvid, TokenError};
pub use verify::{Refused, VerifiedJwt, verify};

/// Longest token in bytes, to be read or made.
pub const MAX_LEN: usize = 32 * 1024;

#[cfg(test)]
mod tests;
