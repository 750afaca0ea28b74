//! Everything the server knows, in memory: entries, agents, join tokens, authorities. One task owns it, stores
//! each change, then publishes the next [`Snapshot`], then answers. Readers take the newest snapshot and see one
//! moment, however long they look.
//!
//! A change is a function of a [`Draft`]: it decides, on the state as it will be, and says what to write and what
//! to audit. Changes that arrive while the disk is busy are committed together.

mod agent;
pub mod alarms;
pub mod authority_changes;
pub mod changes;
mod codec;
pub mod consent;
mod draft;
mod entries;
mod entry;
mod event_logs;
mod filter;
pub mod hardware;
pub mod host_changes;
mod host_codec;
mod hosts;
pub mod key_changes;
mod matching;
mod policies;
pub mod policy_changes;
mod policy_codec;
mod revocation_codec;
mod snapshot;
mod task;
mod token;
pub mod verdict_changes;
mod withdrawal;

use std::{fmt, sync::Arc};

use svid::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

pub use agent::{Agent, AgentSvid};
pub use codec::{CodecError, Kind, kind, read_record};
pub use draft::{Draft, Touched};
pub use entries::Entries;
pub use entry::{Attributes, Entry, EntryId, PathKey, SERVER_PATH};
pub use event_logs::{EventLogError, EventLogs};
pub use filter::{AgentFilter, EntryFilter, Match, SetMatch};
pub use hosts::{HostId, Hosts};
pub use matching::{Concerned, authorized_entries, is_authorized};
pub use policies::{Policies, StoredGeneration, StoredPolicy};
pub use policy_codec::PolicyCodecError;
pub use snapshot::Snapshot;
pub use task::{LoadError, Owner, Publication};
pub use token::{JoinToken, TokenHash};
pub use withdrawal::Withdrawal;

/// Reads and changes what the server knows. Clones share it.
#[derive(Clone)]
pub struct Registry {
    jobs: mpsc::Sender<Job>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// A change that waits its turn: makes itself on a draft, and answers when it is known what became of it.
type Job = Box<dyn FnOnce(&mut Draft) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), ChangeError>) + Send>;

/// A change was not made. Nothing of it is visible or will be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// It could not be made durable.
    #[error("cannot store the change: {0}")]
    NotStored(Arc<str>),
    /// The server is ending.
    #[error("server is stopping")]
    Stopped,
}

impl Registry {
    /// The newest state.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Follows the state.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Says what would come of a change, and changes nothing.
    pub fn rehearse<T>(&self, now: Timestamp, change: impl FnOnce(&mut Draft) -> T) -> T {
        change(&mut Draft::new((*self.snapshot()).clone(), now))
    }

    /// Makes a change: it is durable and published when this returns.
    ///
    /// # Errors
    ///
    /// It could not be stored; the state is as before.
    pub async fn change<T, F>(&self, change: F) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Draft) -> T + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |draft| {
            let outcome = change(draft);
            Box::new(move |stored| {
                // Whoever asked may have gone; the change stands all the same.
                let _gone = done.send(stored.map(|()| outcome));
            })
        });
        self.jobs.send(job).await.map_err(|_| ChangeError::Stopped)?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("revision", &self.snapshots.borrow().revision)
            .finish_non_exhaustive()
    }
}

/// A host row in which everything is said.
#[cfg(test)]
pub(crate) fn full_host() -> plugin_api::Host {
    host_codec::tests::full()
}

#[cfg(test)]
mod tests;
