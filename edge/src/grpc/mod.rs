//! gRPC over a byte stream that is already there: one HTTP/2 connection each, which never redials and is
//! drained by itself. tonic's own transport can do neither.

mod client;
mod server;

pub use client::{Client, ConnectError, connect};
pub use server::{Course, Limits, serve, serve_until};
