//! A server and two hosts with a TPM, on four connections, after a script: who says what where, what happens to the hosts
//! meanwhile, and what somebody on the way keeps, changes, and says again.
//!
//! Each step is four bytes: what, and of whom or how. Whatever is played, the server believes nothing but what a TPM said
//! about this very connection, request, hello and nonce, and nothing else than what was true of that TPM's host then; it
//! holds nothing against a host but what that host surely said; and a host that is as it booted is believed.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "hosts, files and prover are the target's own: what fails there is the target's fault"
)]

mod host;
mod message;
mod model;
mod stage;

use stage::Stage;

/// Most steps of a script that are played.
pub const MAX_STEPS: usize = 96;
/// How many bytes a step takes.
pub const STEP: usize = 4;

/// What a script came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Claims that were accepted: attestations, sessions, and what was new in rounds.
    pub claims: usize,
    /// Rounds in which nothing was new.
    pub unchanged: usize,
    /// Rounds in which the kernel's list had got longer.
    pub grown: usize,
    /// Messages that were refused.
    pub refused: usize,
    /// Those of them that were held against a host.
    pub blamed: usize,
}

/// Plays a script.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// Plays a script; says what it came to.
pub fn play(bytes: &[u8]) -> Tally {
    let mut stage = Stage::new();
    for step in bytes.as_chunks::<STEP>().0.iter().take(MAX_STEPS) {
        stage.play(*step);
    }
    stage.tally
}
