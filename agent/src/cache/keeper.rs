//! The task that owns the cache: takes what the server pushes, has SVIDs signed before anybody asks, and tells the
//! server when workloads have what it sent.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use edge::{Chain, Clock};
use proto::bytes::Bytes;
use svid::{Bundle, Roots};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{
    Cache, CachedEntry, Deliveries,
    crls::bearable,
    decide::{due, renewal_of, signable, tainted},
    pace::Pace,
};
use crate::{refusal::retry_after, workload_svid::WorkloadSvid};

/// Has SVIDs signed. One answer an entry, in order; `None` where the server signed nothing.
pub type Signer = Arc<dyn Fn(Vec<Arc<CachedEntry>>) -> Signing + Send + Sync>;
/// SVIDs that are being signed.
pub type Signing = Pin<Box<dyn Future<Output = Result<Vec<Option<WorkloadSvid>>, SignError>> + Send>>;

/// SVIDs could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The server refused, or could not be reached.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Call(Box<tonic::Status>),
    /// A key can't be made.
    #[error(transparent)]
    Key(#[from] crate::svid_key::KeyRequestError),
    /// The server does not answer.
    #[error("no answer from the server within {} s", .0.as_secs())]
    Late(Duration),
    /// There is no connection to the server now.
    #[error("not connected to the server")]
    NotConnected,
}

/// Reaches the task. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct KeeperHandle {
    commands: mpsc::Sender<Command>,
    cache: watch::Receiver<Arc<Cache>>,
    deliveries: Deliveries,
}

/// What the server pushed, complete.
#[derive(Debug, Default)]
pub struct Pushed {
    /// The bundle, if it changed.
    pub bundle: Option<Arc<Bundle>>,
    /// The CRLs, if they changed.
    pub crls: Option<Arc<[Bytes]>>,
    /// Entries that are new or changed.
    pub entries: Vec<CachedEntry>,
    /// Identifiers of entries that are gone, or can't be used any more.
    pub removed: Vec<String>,
}

#[derive(Debug)]
enum Command {
    /// There is a connection to the server.
    Connected,
    /// What there is, is void.
    Deny,
    /// Answered with the number of the state that it made.
    Push(Pushed, oneshot::Sender<u64>),
    /// What was kept over the start.
    Restore(Box<Cache>),
    /// Somebody waits for the SVIDs of entries that are signed on demand.
    Want(Vec<Arc<str>>),
    /// Everything is void.
    Withdraw,
}

/// The task.
pub struct Keeper {
    commands: mpsc::Receiver<Command>,
    cache: watch::Sender<Arc<Cache>>,
    signer: Signer,
    clock: Clock,
    /// Entries on demand that somebody waits for; until they are signed, or gone.
    wanted: BTreeSet<Arc<str>>,
    /// What is being signed now.
    signing: Option<(Vec<Arc<CachedEntry>>, Signing)>,
    pace: Pace,
    /// The next of those whose authority is tainted are not signed before: other hosts have some, too.
    tainted_after: Option<Instant>,
}

/// Commands that wait; further callers wait in turn.
const QUEUE: usize = 64;
/// Most SVIDs that are signed at once.
const BATCH: usize = 500;
/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(5);
/// Most SVIDs of a tainted authority that are replaced at once.
const TAINTED_BATCH: usize = 100;
/// Pause after each such batch; up to half as long again, so that hosts drift apart.
const TAINTED_PAUSE: Duration = Duration::from_secs(5);

impl KeeperHandle {
    /// Takes what the server pushed. Answers with the number of the state that it made, which
    /// [`Deliveries::delivered`] waits for.
    pub async fn push(&self, pushed: Pushed) -> u64 {
        let (done, applied) = oneshot::channel();
        // The task ends with the agent.
        let _ending = self.commands.send(Command::Push(pushed, done)).await;
        applied.await.unwrap_or_default()
    }

    /// Goes by what was kept over the start, unless the server was heard meanwhile.
    pub async fn restore(&self, kept: Cache) {
        let _ending = self.commands.send(Command::Restore(Box::new(kept))).await;
    }

    /// Says that there is a connection to the server.
    pub async fn connected(&self) {
        let _ending = self.commands.send(Command::Connected).await;
    }

    /// Voids everything: the host lost its standing.
    pub async fn withdraw(&self) {
        let _ending = self.commands.send(Command::Withdraw).await;
    }

    /// Voids whatever there is: the server wants no such host.
    pub async fn deny(&self) {
        let _ending = self.commands.send(Command::Deny).await;
    }

    /// Asks for the SVIDs of entries that are signed on demand.
    pub async fn want(&self, ids: Vec<Arc<str>>) {
        let _ending = self.commands.send(Command::Want(ids)).await;
    }

    /// Follows the cache.
    #[must_use]
    pub fn cache(&self) -> watch::Receiver<Arc<Cache>> {
        self.cache.clone()
    }

    /// Where streams of workloads say what they passed on.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }
}

impl Keeper {
    /// A task that has SVIDs signed by `signer`.
    #[must_use]
    pub fn new(signer: Signer, clock: Clock) -> (Self, KeeperHandle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (cache, published) = watch::channel(Arc::default());
        let handle = KeeperHandle {
            commands: sender,
            cache: published,
            deliveries: Deliveries::default(),
        };
        let keeper = Self {
            commands,
            cache,
            signer,
            clock,
            wanted: BTreeSet::new(),
            signing: None,
            pace: Pace::default(),
            tainted_after: None,
        };
        (keeper, handle)
    }

    /// Runs until nobody can reach it any more.
    pub async fn run(mut self) {
        loop {
            if self.signing.is_none() {
                self.begin_signing();
            }
            let look = self.next_look();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                (entries, outcome) = signed(&mut self.signing) => self.take(&entries, outcome),
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connected => {
                self.pace = Pace::default();
                // It went over another connection, or over none.
                self.signing = None;
            }
            Command::Deny if self.cache.borrow().entries.is_empty() => {}
            Command::Push(pushed, done) => {
                self.apply(pushed);
                // Whoever pushed may have gone.
                let _gone = done.send(self.cache.borrow().number);
            }
            Command::Restore(kept) => self.restore(*kept),
            Command::Want(ids) => self.wanted.extend(ids),
            Command::Deny | Command::Withdraw => self.withdraw(),
        }
    }

    fn withdraw(&mut self) {
        info!("Every SVID of this host is void");
        // What is being signed rests on the standing that was lost.
        self.signing = None;
        self.wanted.clear();
        let (bundle, roots, crls) = {
            let cache = self.cache.borrow();
            (
                cache.bundle.clone(),
                Arc::clone(&cache.roots),
                Arc::clone(&cache.crls),
            )
        };
        self.publish(Cache {
            bundle,
            roots,
            crls,
            is_synced: true,
            ..Cache::default()
        });
    }

    fn restore(&self, kept: Cache) {
        if !self.cache.borrow().is_synced {
            self.publish(Cache {
                is_synced: true,
                is_restored: true,
                ..kept
            });
        }
    }

    fn apply(&mut self, pushed: Pushed) {
        let mut cache = (**self.cache.borrow()).clone();
        (cache.is_synced, cache.is_restored) = (true, false);
        if let Some(bundle) = pushed.bundle {
            cache.roots = Arc::new(Roots::of(&bundle));
            cache.bundle = Some(bundle);
        }
        if let Some(crls) = pushed.crls {
            cache.crls = bearable(&crls, &cache.crls);
        }
        for id in &pushed.removed {
            self.pace.forget(id);
            self.wanted.remove(id.as_str());
            cache.entries.remove(id.as_str());
            cache.svids.remove(id.as_str());
        }
        for entry in pushed.entries {
            self.pace.forget(&entry.id);
            // Another identity is gone at once, not when the new one is signed.
            if cache.svids.get(&entry.id).is_some_and(|svid| !svid.is_of(&entry)) {
                cache.svids.remove(&entry.id);
            }
            cache.entries.insert(Arc::clone(&entry.id), Arc::new(entry));
        }
        self.publish(cache);
    }

    fn publish(&self, mut cache: Cache) {
        cache.number = self.cache.borrow().number + 1;
        self.cache.send_replace(Arc::new(cache));
    }

    fn begin_signing(&mut self) {
        if !self.pace.left().is_zero() {
            return;
        }
        let cache = Arc::clone(&self.cache.borrow());
        // One that is signed needs no more wanting: it is renewed as long as its entry is there.
        self.wanted.retain(|id| {
            let entry = cache.entries.get(id);
            entry.is_some_and(|entry| cache.svid(entry).is_none())
        });
        let mut entries = due(&cache, &self.wanted, self.clock.now());
        if entries.is_empty() {
            entries = self.next_tainted(&cache);
        }
        entries.retain(|entry| self.pace.left_for(&entry.id).is_zero());
        entries.truncate(BATCH);
        if !entries.is_empty() {
            let signing = (self.signer)(entries.clone());
            self.signing = Some((entries, signing));
        }
    }

    /// The next batch of those whose authority is tainted: the first at once, the others later.
    fn next_tainted(&mut self, cache: &Cache) -> Vec<Arc<CachedEntry>> {
        let now = Instant::now();
        if self.tainted_after.is_some_and(|after| after > now) {
            return Vec::new();
        }
        let mut tainted = tainted(cache, self.clock.now());
        self.tainted_after = None;
        if !tainted.is_empty() {
            info!(count = tainted.len(), "SVIDs of a tainted authority are replaced");
            let random = f64::from(u16::from_be_bytes(edge::random())) / f64::from(u16::MAX);
            self.tainted_after = Some(now + TAINTED_PAUSE.mul_f64(1.0 + random / 2.0));
        }
        tainted.truncate(TAINTED_BATCH);
        tainted
    }

    fn take(&mut self, entries: &[Arc<CachedEntry>], outcome: Result<Vec<Option<WorkloadSvid>>, SignError>) {
        match outcome {
            Ok(svids) => {
                self.pace.answered();
                self.take_signed(entries, svids);
            }
            Err(error @ SignError::NotConnected) => {
                // That there is no connection is said by whoever tries to make one.
                debug!(error = %Chain(&error), count = entries.len(), "SVIDs not signed");
                self.pace.wait(LOOK);
            }
            Err(error) => {
                self.tainted_after = None;
                let hint = match &error {
                    SignError::Call(status) => retry_after(status),
                    _ => None,
                };
                let retry_in = self.pace.failed(hint);
                warn!(error = %Chain(&error), count = entries.len(), ?retry_in, "SVIDs not signed");
            }
        }
    }

    fn take_signed(&mut self, entries: &[Arc<CachedEntry>], svids: Vec<Option<WorkloadSvid>>) {
        let mut cache = (**self.cache.borrow()).clone();
        let mut has_changed = false;
        for (entry, svid) in entries.iter().zip(svids) {
            // The entry may have gone, or come to name something else, while its SVID was signed.
            let Some(now) = cache.entries.get(&entry.id) else {
                continue;
            };
            match svid {
                Some(svid) if svid.is_of(now) => {
                    info!(spiffe_id = %entry.spiffe_id, entry_id = %entry.id, expires_at = %svid.not_after, "SVID ready");
                    self.pace.forget(&entry.id);
                    cache.svids.insert(Arc::clone(&entry.id), Arc::new(svid));
                    has_changed = true;
                }
                Some(_) => debug!(entry_id = %entry.id, "SVID of an older revision dropped"),
                None => self.pace.refused(&entry.id),
            }
        }
        if has_changed {
            self.publish(cache);
        }
    }

    /// Until something is to be signed.
    fn next_look(&self) -> Duration {
        if self.signing.is_some() {
            return LOOK;
        }
        let now = self.clock.now();
        let cache = Arc::clone(&self.cache.borrow());
        let waits = signable(&cache, &self.wanted).map(|entry| {
            let due_in = renewal_of(&cache, entry).since(now);
            due_in.max(self.pace.left_for(&entry.id))
        });
        let tainted = self
            .tainted_after
            .map(|after| after.saturating_duration_since(Instant::now()));
        let next = waits.chain(tainted).min().unwrap_or(LOOK);
        next.max(self.pace.left()).min(LOOK)
    }
}

/// Waits for what is being signed; for ever, where there is nothing.
async fn signed(
    signing: &mut Option<(Vec<Arc<CachedEntry>>, Signing)>,
) -> (
    Vec<Arc<CachedEntry>>,
    Result<Vec<Option<WorkloadSvid>>, SignError>,
) {
    let Some((_, under_way)) = signing else {
        return std::future::pending().await;
    };
    let outcome = under_way.await;
    let entries = signing.take().map(|(entries, _)| entries).unwrap_or_default();
    (entries, outcome)
}

#[cfg(test)]
mod tests;
