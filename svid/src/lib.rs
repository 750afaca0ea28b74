//! What a SPIFFE ID, trust domain, bundle, SVID and selector are: parse, verify and build them.
//!
//! This crate decides and never acts: bytes, `now` and keys come in as arguments, values go out. It has no
//! clock, no file, no socket and no runtime. Randomness (serial numbers) is an argument as well.
//!
//! ```text
//!   "spiffe://td/path" ──▶ SpiffeId          JWK Set ◀──▶ Bundle
//!   PKCS#10 ──▶ CertificateRequest ──▶ Template ──(signing key)──▶ X509-SVID
//!   X509-SVID + Bundle + now ──▶ VerifiedSvid, or the reason why not
//!   jwt::Claims ──(signing key)──▶ JWT-SVID
//!   JWT-SVID + Bundle + audience + now ──▶ VerifiedJwt, or the reason why not
//! ```

mod bundle;
mod dns_name;
mod id;
pub mod jwt;
mod renew;
mod roots;
mod selector;
mod time;
pub mod x509;

pub use bundle::{Bundle, BundleError, JwtAuthority, X509Authority};
pub use dns_name::{DnsName, DnsNameError};
pub use id::{SpiffeId, SpiffeIdError, TrustDomain, TrustDomainError};
pub use renew::renew_at;
pub use roots::{Roots, Standing, signed_by};
pub use selector::{Selector, SelectorError, SelectorSet};
pub use time::Timestamp;
