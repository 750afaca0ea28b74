//! What outlives a restart while the server is away: the state that workloads are served from, in a file that this host's
//! TPM alone opens, while its PCRs hold what the server accepted last.
//!
//! It is a cache, and nothing rests on it: what does not open, or has ended, is deleted, and the host attests. It is served
//! only where the server can't be reached. The agent's own SVID is not in it: once the server is back, the host attests
//! anew.
//!
//! A file holds no more than the agent does: what the server takes away is out of it before that is acknowledged, and when
//! the host loses its standing, the file goes while workloads lose theirs. A disk that hangs holds neither up for more than
//! a few seconds. What ended is out of it for good, and a clock that shows less than when it was written opens nothing.

pub mod content;
mod decide;
mod disk;
pub mod file;
mod message;
mod task;
mod tpm;

use std::{path::PathBuf, time::Duration};

use edge::{
    Clock,
    metrics::{Gauge, Tally},
};
use plugin_api::Sealing;
use proto::plastron::agent::v1 as wire;
use serde::Deserialize;
use svid::TrustDomain;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tracing::error;

use crate::{attest::Prover, cache::KeeperHandle};
pub use task::SealedState;

/// Whether anything is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where the host has a TPM that can seal, and the server says to what.
    #[default]
    Auto,
    /// Nothing is, and what was is deleted.
    Off,
}

/// What the task works with.
pub struct SealedWith {
    /// Whether anything is kept.
    pub mode: Mode,
    /// Where.
    pub path: PathBuf,
    /// Ours.
    pub trust_domain: TrustDomain,
    /// What seals.
    pub prover: Prover,
    /// Whose state is kept.
    pub keeper: KeeperHandle,
    /// What is counted.
    pub meters: Meters,
    /// The time.
    pub clock: Clock,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// X509-SVIDs that are in the file.
    pub svids: Gauge,
    /// What happened to the file, by outcome.
    pub outcomes: Tally<1>,
}

/// Reaches the task. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct SealedHandle {
    commands: mpsc::Sender<Command>,
    settled: watch::Receiver<u64>,
}

#[derive(Debug)]
enum Command {
    /// The server said to what state may be sealed.
    Accepted(Option<Sealing>),
    /// The server can't be reached.
    Serve,
    /// The host lost its standing. Answered once nothing is left on the disk.
    Void(oneshot::Sender<()>),
}

/// Commands that wait.
const QUEUE: usize = 16;
/// How long an acknowledgement waits for the disk.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// How long anything else waits for the task, which waits for the disk.
const OBEYS_WITHIN: Duration = Duration::from_secs(5);

impl SealedHandle {
    /// Says what the server accepted, as it put it.
    pub async fn accepted(&self, sealing: Option<&wire::Sealing>) {
        let sealing = sealing.and_then(message::sealing_from_wire);
        // The task ends with the agent; if it hangs, what was accepted before is as good.
        let _ending = timeout(OBEYS_WITHIN, self.commands.send(Command::Accepted(sealing))).await;
    }

    /// Says that the server can't be reached: workloads are served what was kept.
    pub fn serve(&self) {
        // Where the queue is full, it was said before.
        let _full = self.commands.try_send(Command::Serve);
    }

    /// Deletes what was kept: the host lost its standing. Done when this returns, unless the disk hangs: then it is said, and
    /// happens as soon as that goes on.
    pub async fn void(&self) {
        let (done, deleted) = oneshot::channel();
        let voiding = async {
            let _ending = self.commands.send(Command::Void(done)).await;
            let _ending = deleted.await;
        };
        if timeout(OBEYS_WITHIN, voiding).await.is_err() {
            error!(
                "Sealed state not deleted within 5 s: the disk hangs; if it stays so, remove `sealed.state`, or a restart while the server is away may serve what is void"
            );
        }
    }

    /// Waits until nothing is kept that the state of this number has no more; for a while at most.
    pub async fn settled(mut self, number: u64) {
        let settled = self.settled.wait_for(|settled| *settled >= number);
        let _late = timeout(SETTLES_WITHIN, settled).await;
    }
}
