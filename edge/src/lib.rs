//! Where both binaries meet the world: configuration, TLS, gRPC over it and over local sockets, logging,
//! systemd. Mechanism only: nothing here knows an entry, a host or an SVID's meaning.

pub mod clock;
pub mod config;
pub mod file;
pub mod grpc;
pub mod health;
pub mod json;
pub mod local;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod notify;
pub mod otlp;
mod random;
mod report;
pub mod tls;
pub mod webhook;

pub use clock::Clock;
pub use random::random;
pub use report::Chain;
