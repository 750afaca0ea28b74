//! The task that owns the cache: takes what the server pushes, has SVIDs signed before anybody asks, and tells the
//! server when workloads have what it sent.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edge::{Chain, Clock};
use svid::{Bundle, Roots, Timestamp};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{Cache, CachedEntry, due, renewal_of, tainted};
use crate::workload_svid::WorkloadSvid;

/// Has SVIDs signed. One answer an entry, in order; `None` where the server signed nothing.
pub type Signer = Arc<dyn Fn(Vec<Arc<CachedEntry>>) -> Signing + Send + Sync>;
type Signing = Pin<Box<dyn Future<Output = Result<Vec<Option<WorkloadSvid>>, SignError>> + Send>>;

/// SVIDs could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The server refused, or could not be reached.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Call(Box<tonic::Status>),
    /// A key can't be made.
    #[error(transparent)]
    Key(#[from] crate::svid_key::KeyRequestError),
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
    /// Entries that are new or changed.
    pub entries: Vec<CachedEntry>,
    /// Identifiers of entries that are gone.
    pub removed: Vec<String>,
}

#[derive(Debug)]
enum Command {
    /// Answered when the streams of workloads have it.
    Push(Pushed, oneshot::Sender<()>),
    /// Somebody waits for the SVID of an entry that is signed on demand.
    Want(Arc<str>),
    /// Everything is void.
    Withdraw,
}

/// The task.
pub struct Keeper {
    commands: mpsc::Receiver<Command>,
    cache: watch::Sender<Arc<Cache>>,
    deliveries: Deliveries,
    signer: Signer,
    clock: Clock,
    wanted: BTreeSet<Arc<str>>,
    /// Nothing is signed before: the last try failed.
    pause_until: Option<tokio::time::Instant>,
    /// The next of those whose authority is tainted are not signed before: other hosts have some, too.
    tainted_after: Option<tokio::time::Instant>,
}

/// Commands that wait; further callers wait in turn.
const QUEUE: usize = 64;
/// Most SVIDs that are signed at once.
const BATCH: usize = 500;
/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after signing failed.
const RETRY: Duration = Duration::from_secs(1);
/// Most SVIDs of a tainted authority that are replaced at once.
const TAINTED_BATCH: usize = 100;
/// Pause after each such batch; up to half as long again, so that hosts drift apart.
const TAINTED_PAUSE: Duration = Duration::from_secs(5);
/// How long a stream may take to pass on what it was given.
const DELIVER_WITHIN: Duration = Duration::from_secs(5);

impl KeeperHandle {
    /// Takes what the server pushed. Comes back when every stream of a workload has passed it on.
    pub async fn push(&self, pushed: Pushed) {
        let (done, delivered) = oneshot::channel();
        // The task ends with the agent.
        let _ending = self.commands.send(Command::Push(pushed, done)).await;
        let _ending = delivered.await;
        if timeout(DELIVER_WITHIN, self.deliveries.all_have_newest())
            .await
            .is_err()
        {
            debug!("A workload does not read its stream");
        }
    }

    /// Voids everything: the host lost its standing.
    pub async fn withdraw(&self) {
        let _ending = self.commands.send(Command::Withdraw).await;
    }

    /// Asks for the SVID of an entry that is signed on demand.
    pub async fn want(&self, id: Arc<str>) {
        let _ending = self.commands.send(Command::Want(id)).await;
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
        let deliveries = Deliveries::default();
        let handle = KeeperHandle {
            commands: sender,
            cache: published,
            deliveries: deliveries.clone(),
        };
        let wanted = BTreeSet::new();
        (
            Self {
                commands,
                cache,
                deliveries,
                signer,
                clock,
                wanted,
                pause_until: None,
                tainted_after: None,
            },
            handle,
        )
    }

    /// Runs until nobody can reach it any more.
    pub async fn run(mut self) {
        let mut signing: Option<(Vec<Arc<CachedEntry>>, Signing)> = None;
        loop {
            if signing.is_none() {
                signing = self.begin_signing();
            }
            // What is due is being signed: there is nothing to look for meanwhile.
            let look = if signing.is_some() { LOOK } else { self.next_look() };
            let signed = async {
                match &mut signing {
                    Some((_, signing)) => signing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                outcome = signed => {
                    let entries = signing.take().map(|(entries, _)| entries).unwrap_or_default();
                    self.signed(&entries, outcome);
                }
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Push(pushed, done) => {
                self.apply(pushed);
                // Whoever pushed may have gone.
                let _gone = done.send(());
            }
            Command::Want(id) => drop(self.wanted.insert(id)),
            Command::Withdraw => {
                info!("Every SVID of this host is void");
                let (bundle, roots) = {
                    let cache = self.cache.borrow();
                    (cache.bundle.clone(), Arc::clone(&cache.roots))
                };
                self.publish(Cache {
                    bundle,
                    roots,
                    is_synced: true,
                    ..Cache::default()
                });
            }
        }
    }

    fn apply(&mut self, pushed: Pushed) {
        let mut cache = (**self.cache.borrow()).clone();
        cache.is_synced = true;
        if let Some(bundle) = pushed.bundle {
            cache.roots = Arc::new(Roots::of(&bundle));
            cache.bundle = Some(bundle);
        }
        for id in &pushed.removed {
            cache.entries.remove(id.as_str());
            cache.svids.remove(id.as_str());
        }
        for entry in pushed.entries {
            cache.entries.insert(Arc::clone(&entry.id), Arc::new(entry));
        }
        self.pause_until = None;
        self.publish(cache);
    }

    fn publish(&self, cache: Cache) {
        self.deliveries.newer();
        self.cache.send_replace(Arc::new(cache));
    }

    fn begin_signing(&mut self) -> Option<(Vec<Arc<CachedEntry>>, Signing)> {
        if self
            .pause_until
            .is_some_and(|until| until > tokio::time::Instant::now())
        {
            return None;
        }
        let cache = Arc::clone(&self.cache.borrow());
        let wanted = std::mem::take(&mut self.wanted);
        let on_demand = wanted.iter().filter(|id| !cache.svids.contains_key(*id));
        let mut entries: Vec<_> = on_demand
            .filter_map(|id| cache.entries.get(id))
            .cloned()
            .collect();
        entries.extend(due(&cache, self.clock.now()));
        if entries.is_empty() {
            entries = self.next_tainted(&cache);
        }
        entries.truncate(BATCH);
        if entries.is_empty() {
            return None;
        }
        Some((entries.clone(), (self.signer)(entries)))
    }

    /// The next batch of those whose authority is tainted: the first at once, the others later.
    fn next_tainted(&mut self, cache: &Cache) -> Vec<Arc<CachedEntry>> {
        let now = tokio::time::Instant::now();
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

    fn signed(
        &mut self,
        entries: &[Arc<CachedEntry>],
        outcome: Result<Vec<Option<WorkloadSvid>>, SignError>,
    ) {
        let svids = match outcome {
            Ok(svids) => svids,
            Err(error) => {
                warn!(error = %Chain(&error), count = entries.len(), retry_in = ?RETRY, "SVIDs not signed");
                self.pause_until = Some(tokio::time::Instant::now() + RETRY);
                self.tainted_after = None;
                return;
            }
        };
        let mut cache = (**self.cache.borrow()).clone();
        for (entry, svid) in entries.iter().zip(svids) {
            // The entry may have gone while its SVID was signed.
            let (Some(svid), true) = (svid, cache.entries.contains_key(&entry.id)) else {
                self.pause_until = Some(tokio::time::Instant::now() + RETRY);
                continue;
            };
            info!(spiffe_id = %entry.spiffe_id, entry_id = %entry.id, expires_at = %svid.not_after, "SVID ready");
            cache.svids.insert(Arc::clone(&entry.id), Arc::new(svid));
        }
        self.publish(cache);
    }

    /// Until the next SVID is due.
    fn next_look(&self) -> Duration {
        let pause = self
            .pause_until
            .map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            return pause;
        }
        let cache = Arc::clone(&self.cache.borrow());
        let renewals = cache.entries.values().filter_map(|entry| {
            let svid = cache.svids.get(&entry.id);
            (svid.is_some() || !entry.on_demand).then(|| renewal_of(&cache, entry))
        });
        let next: Option<Timestamp> = renewals.min();
        let look = next.map_or(LOOK, |next| next.since(self.clock.now()).min(LOOK));
        let tainted = self
            .tainted_after
            .map(|after| after.saturating_duration_since(tokio::time::Instant::now()));
        look.min(tainted.unwrap_or(LOOK))
    }
}

/// What the streams of workloads passed on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    newest: AtomicU64,
    streams: Mutex<Vec<Weak<AtomicU64>>>,
    changed: Notify,
}

/// What one stream passed on.
#[derive(Debug)]
pub struct Delivery {
    passed_on: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

impl Deliveries {
    /// Counts a stream in, until it is dropped.
    #[must_use]
    pub fn register(&self) -> Delivery {
        let passed_on = Arc::new(AtomicU64::new(self.newest()));
        self.streams().push(Arc::downgrade(&passed_on));
        Delivery {
            passed_on,
            shared: Arc::clone(&self.0),
        }
    }

    /// The number of the newest state.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.0.newest.load(Ordering::Acquire)
    }

    fn newer(&self) {
        self.0.newest.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until every stream has passed on the state that is the newest now.
    async fn all_have_newest(&self) {
        let wanted = self.newest();
        loop {
            // Made before the look: what is passed on in between is noticed.
            let changed = self.0.changed.notified();
            if self.all_have(wanted) {
                return;
            }
            changed.await;
        }
    }

    fn all_have(&self, wanted: u64) -> bool {
        let mut streams = self.streams();
        streams.retain(|stream| stream.strong_count() > 0);
        let is_behind = |stream: &Weak<AtomicU64>| {
            stream
                .upgrade()
                .is_some_and(|passed_on| passed_on.load(Ordering::Acquire) < wanted)
        };
        !streams.iter().any(is_behind)
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// The stream passed on everything up to the state with this number, or has no need to.
    pub fn passed_on(&self, number: u64) {
        self.passed_on.store(number, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.passed_on.store(u64::MAX, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}
