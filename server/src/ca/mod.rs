//! The server's signing authorities: X.509 and JWT, two key slots each, rotating by themselves.
//!
//! [`decide`] says what to do next, a pure function of what is there and the time; [`Rotation`] does it. Operators
//! may be ahead of it by [`Orders`], and [`Order::decide`] says which can be carried out. What is signed is always a
//! [`Template`](svid::x509::Template) or [`Claims`](svid::jwt::Claims), and never leaves the server before the
//! journal has its serial number. Each X.509 authority has a CRL from its publication on: the certificates of agents
//! that were banned, evicted or whose host was removed, and those of workloads that went through them.

mod authorities;
mod codec;
mod condemned;
mod crl;
mod decide;
mod order;
mod orders;
mod outputs;
mod pause;
mod revocation;
mod rotation;
mod sign;
mod slots;
mod steps;
mod token;
mod upstream;
mod waiting;

pub use authorities::{Authorities, Authority, AuthorityState, JwtAuthority, Upstream, X509Authority};
pub use codec::{decode, encode};
pub use condemned::Condemned;
pub use crl::Crl;
pub use decide::{Slot, Step, decide};
pub use order::{AuthorityKind, Order, OrderRefused};
pub use orders::{Command, Ordered, Orders};
pub use outputs::Outputs;
pub use revocation::CrlPaths;
pub use rotation::{Rotation, RotationConfig, RotationError};
pub use sign::{Ca, IssuedSvid, SignError, SignedSvid, Signing};
pub use token::{IssuedJwt, JwtSigning, SignedJwt};
