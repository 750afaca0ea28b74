//! X509-SVIDs: what a certificate says, requests for one, verification, issuing.
//! <https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>

mod crl;
mod mint;
mod profile;
mod public_key;
mod request;
mod serial;
mod verify;

pub use crl::{CrlContent, RevocationReason, Revoked, crl_authority, sign_crl};
pub use mint::{Issuer, MintError, Subject, Template, TemplateKind, sign};
pub use profile::{ProfileError, X509Svid};
pub use public_key::{PublicKey, PublicKeyError};
pub use request::{CertificateRequest, RequestError};
pub use serial::SerialNumber;
pub use verify::{Refused, VerifiedSvid, verify};
