//! The store as a process has it: killed, traced, and opened on what an older one left.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod crash;
mod fsync;
mod golden;
mod writer;
