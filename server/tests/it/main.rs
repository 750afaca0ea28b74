//! The server in this process, called over its local socket as an operator calls it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod authority;
mod bundle;
mod configuration;
mod crl;
mod entry_files;
mod jwt;
mod local;
mod server;
