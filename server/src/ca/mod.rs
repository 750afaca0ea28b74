//! The server's signing authorities: X.509 and JWT, two key slots each, rotating by themselves.
//!
//! [`decide`] says what to do next, a pure function of what is there and the time; [`Rotation`] does it. What
//! is signed is always a [`Template`](svid::x509::Template), and never leaves the server before the journal has
//! its serial number.

mod authorities;
mod codec;
mod decide;
mod rotation;
mod sign;
mod steps;

pub use authorities::{Authorities, Authority, AuthorityState, JwtAuthority, X509Authority};
pub use codec::{decode, encode};
pub use decide::{Slot, Step, decide};
pub use rotation::{Outputs, Rotation, RotationConfig, RotationError};
pub use sign::{Ca, IssuedSvid, SignError, SignedSvid, Signing};
