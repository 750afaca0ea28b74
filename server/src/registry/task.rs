//! The task that owns the registry.

use std::sync::Arc;

use edge::{Chain, Clock, metrics::Histogram};
use svid::TrustDomain;
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use super::{
    ChangeError, CodecError, Draft, Job, Registry, Snapshot, Touched, codec, draft::Finished,
    hardware::mixed_entries,
};
use crate::{
    journal::Journal,
    store::{Batch, Store, StoreError},
    webhook::Webhook,
};

/// Most changes that wait; further callers wait in turn.
const QUEUE: usize = 4096;
/// Most changes that are committed together.
const GROUP: usize = 512;

/// A published change: the state before and after, and what was touched.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The state before.
    pub before: Arc<Snapshot>,
    /// The state now.
    pub after: Arc<Snapshot>,
    /// What differs.
    pub touched: Arc<[Touched]>,
}

/// The store can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A record is not what it should be.
    #[error("record `{key}` can't be understood; restore the data directory from a backup")]
    Record {
        /// Which one.
        key: String,
        /// Why.
        source: CodecError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Owns the registry: run it to make changes happen.
pub struct Owner {
    store: Arc<Store>,
    journal: Journal,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    publications: mpsc::Sender<Publication>,
    seconds: Histogram,
    webhook: Option<Webhook>,
}

impl Owner {
    /// Reads everything from `store`. Each change is sent to `publications`, whose receiver has to keep up.
    ///
    /// # Errors
    ///
    /// The store can't be read, or holds something else.
    pub fn load(
        store: Arc<Store>,
        journal: Journal,
        trust_domain: TrustDomain,
        clock: Clock,
        publications: mpsc::Sender<Publication>,
    ) -> Result<(Self, Registry), LoadError> {
        let snapshot = codec::load(&store, trust_domain)?;
        let (sender, jobs) = mpsc::channel(QUEUE);
        let (snapshots, published) = watch::channel(Arc::new(snapshot));
        let owner = Self {
            store,
            journal,
            clock,
            jobs,
            snapshots,
            publications,
            seconds: Histogram::default(),
            webhook: None,
        };
        Ok((
            owner,
            Registry {
                jobs: sender,
                snapshots: published,
            },
        ))
    }

    /// Notes in `seconds` how long commits take.
    #[must_use]
    pub fn metered(self, seconds: Histogram) -> Self {
        Self { seconds, ..self }
    }

    /// Lets IDs be given both by hardware and without, or not: then it says how many entries count for nothing.
    #[must_use]
    pub fn mixing(self, mixed: bool) -> Self {
        let entries = mixed_entries(&self.snapshots.borrow());
        if entries > 0 && !mixed {
            warn!(
                entries,
                "IDs that stand for hardware are given by entries without; these count for nothing: delete them, or set `mixed`"
            );
        }
        self.snapshots
            .send_modify(|snapshot| Arc::make_mut(snapshot).mixed = mixed);
        self
    }

    /// Tells `webhook` what becomes of hosts.
    #[must_use]
    pub fn telling(self, webhook: Webhook) -> Self {
        Self {
            webhook: Some(webhook),
            ..self
        }
    }

    /// Makes changes until every [`Registry`] is gone.
    pub async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        while self.jobs.recv_many(&mut group, GROUP).await > 0 {
            let before = Arc::clone(&self.snapshots.borrow());
            let mut draft = Draft::new((*before).clone(), self.clock.now());
            let replies: Vec<_> = group.drain(..).map(|job| job(&mut draft)).collect();
            let outcome = self.commit(before, draft.finish()).await;
            for reply in replies {
                reply(outcome.clone());
            }
        }
    }

    /// Audits, stores, publishes: in this order. A change that was audited and then not stored is followed by a
    /// record that says so.
    async fn commit(&self, before: Arc<Snapshot>, finished: Finished) -> Result<(), ChangeError> {
        let Finished {
            mut state,
            batch,
            audit,
            touched,
        } = finished;
        let told = self
            .webhook
            .as_ref()
            .map(|webhook| webhook.notices(&audit, self.clock.now()));
        if !audit.is_empty() {
            self.journal
                .append(audit)
                .await
                .map_err(|error| not_stored(&error))?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        state.revision = match self.store(batch).await {
            Ok(revision) => revision,
            Err(error) => {
                error!(error = %Chain(&error), "Change could not be stored");
                self.audit_failure(&error).await;
                return Err(not_stored(&Chain(&error)));
            }
        };
        let after = Arc::new(state);
        self.snapshots.send_replace(Arc::clone(&after));
        if let (Some(webhook), Some(notices)) = (&self.webhook, told) {
            webhook.tell(notices);
        }
        let publication = Publication {
            before,
            after,
            touched: touched.into(),
        };
        // The receiver ends with the server.
        let _ending = self.publications.send(publication).await;
        Ok(())
    }

    async fn store(&self, batch: Batch) -> Result<u64, StoreError> {
        let _timer = self.seconds.timer();
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.commit(batch)).await {
            Ok(outcome) => outcome,
            // The runtime is ending, and cancelled the work.
            Err(_) => Err(StoreError::Conflict(Vec::new())),
        }
    }

    async fn audit_failure(&self, error: &StoreError) {
        let record = crate::journal::Record::new("change_not_stored", &"server").with("error", &Chain(error));
        if let Err(error) = self.journal.append(vec![record]).await {
            error!(%error, "Failed change could not be audited");
        }
    }
}

fn not_stored(error: &dyn std::fmt::Display) -> ChangeError {
    ChangeError::NotStored(error.to_string().into())
}
