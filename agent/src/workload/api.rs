//! The Workload API's methods.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge::Clock;
use futures::Stream;
use plugin_api::WorkloadAttestor;
use proto::{
    bytes::Bytes,
    spiffe::workload::{
        JwtBundlesRequest, JwtBundlesResponse, X509BundlesRequest, X509BundlesResponse, X509svid,
        X509svidRequest, X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
    },
};
use svid::{Bundle, SelectorSet, Standing};
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};

use super::Caller;
use crate::cache::{Cache, CachedEntry, Delivery, KeeperHandle};

pub(super) struct Service {
    pub(super) keeper: KeeperHandle,
    pub(super) attestors: Arc<[Arc<dyn WorkloadAttestor>]>,
    pub(super) clock: Clock,
}

/// How long a call waits for SVIDs that are being signed.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);

/// What the standard calls for where there is nothing for the caller. Clients look for this very text.
fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

#[async_trait]
impl SpiffeWorkloadApi for Service {
    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<BoxStream<X509svidResponse>>, Status> {
        let selectors = self.identify(&request).await?;
        let clock = self.clock;
        self.stream(selectors, move |cache, entries| x509_svids(cache, entries, clock))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<BoxStream<X509BundlesResponse>>, Status> {
        let selectors = self.identify(&request).await?;
        self.stream(selectors, |cache, _| {
            let bundle = cache.bundle.as_ref()?;
            let bundles = HashMap::from([(id(bundle), Bytes::from(bundle.x509_der()))]);
            Some(X509BundlesResponse {
                crl: Vec::new(),
                bundles,
            })
        })
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<BoxStream<JwtBundlesResponse>>, Status> {
        let selectors = self.identify(&request).await?;
        self.stream(selectors, |cache, _| {
            let bundle = cache.bundle.as_ref()?;
            let bundles = HashMap::from([(id(bundle), Bytes::from(bundle.to_jwt_jwks()))]);
            Some(JwtBundlesResponse { bundles })
        })
    }
}

fn id(bundle: &Bundle) -> String {
    bundle.trust_domain.id().to_string()
}

impl Service {
    async fn identify<T>(&self, request: &Request<T>) -> Result<SelectorSet, Status> {
        let caller = request.extensions().get::<Arc<Caller>>();
        let caller = caller.ok_or_else(|| Status::internal("BUG: request without caller"))?;
        let identified = caller.identify(&self.attestors).await;
        identified.map_err(|error| Status::unavailable(edge::Chain(&error).to_string()))
    }

    /// A stream that says what `respond` makes of each state that matters to a workload with these selectors.
    /// `respond` answers `None` where something is still missing.
    fn stream<T: Clone + PartialEq + Send + 'static>(
        &self,
        selectors: SelectorSet,
        respond: impl Fn(&Cache, &[&Arc<CachedEntry>]) -> Option<T> + Send + 'static,
    ) -> Result<Response<BoxStream<T>>, Status> {
        let cache = self.keeper.cache();
        if !cache.borrow().is_synced {
            return Err(Status::unavailable(
                "agent has no identities from the server yet; try again",
            ));
        }
        let delivery = self.keeper.deliveries().register();
        let follower = Follower {
            cache,
            keeper: self.keeper.clone(),
            delivery,
            selectors,
            respond,
            said: None,
            number: 0,
            patience_ends: Instant::now() + SIGNED_WITHIN,
        };
        Ok(Response::new(Box::pin(states(follower))))
    }
}

/// Follows the cache for one stream.
struct Follower<T, F> {
    cache: watch::Receiver<Arc<Cache>>,
    keeper: KeeperHandle,
    delivery: Delivery,
    selectors: SelectorSet,
    respond: F,
    /// What was said last.
    said: Option<T>,
    /// The state that it was said of.
    number: u64,
    /// Until when the first answer may be waited for.
    patience_ends: Instant,
}

fn states<T, F>(follower: Follower<T, F>) -> impl Stream<Item = Result<T, Status>> + Send
where
    T: Clone + PartialEq + Send,
    F: Fn(&Cache, &[&Arc<CachedEntry>]) -> Option<T> + Send,
{
    futures::stream::try_unfold(follower, Follower::advance)
}

/// What a state means for a workload.
enum Meaning<T> {
    /// Entries match, and their SVIDs are not there yet.
    Missing(Vec<Arc<str>>),
    /// No entry matches.
    Nothing,
    /// This is to be said.
    Say(T),
}

impl<T, F> Follower<T, F>
where
    T: Clone + PartialEq + Send,
    F: Fn(&Cache, &[&Arc<CachedEntry>]) -> Option<T> + Send,
{
    async fn advance(mut self) -> Result<Option<(T, Self)>, Status> {
        // Being asked for more means that what was said before is on its way.
        self.delivery.passed_on(self.number);
        loop {
            self.number = self.keeper.deliveries().newest();
            let state = Arc::clone(&self.cache.borrow_and_update());
            match self.read(&state) {
                Meaning::Nothing => return Err(no_identity()),
                Meaning::Say(response) if self.said.as_ref() != Some(&response) => {
                    self.said = Some(response.clone());
                    return Ok(Some((response, self)));
                }
                Meaning::Say(_) => {}
                Meaning::Missing(entries) => {
                    for entry in entries {
                        self.keeper.want(entry).await;
                    }
                }
            }
            self.delivery.passed_on(self.number);
            self.wait().await?;
        }
    }

    fn read(&self, state: &Cache) -> Meaning<T> {
        let matching = state.matching(&self.selectors);
        if matching.is_empty() {
            return Meaning::Nothing;
        }
        match (self.respond)(state, &matching) {
            Some(response) => Meaning::Say(response),
            None => {
                let missing = matching
                    .iter()
                    .filter(|entry| !state.svids.contains_key(&entry.id));
                Meaning::Missing(missing.map(|entry| Arc::clone(&entry.id)).collect())
            }
        }
    }

    /// Waits for another state; a caller who got nothing yet is not kept waiting for ever.
    async fn wait(&mut self) -> Result<(), Status> {
        let changed = self.cache.changed();
        let changed = if self.said.is_some() {
            changed.await
        } else {
            let waited = tokio::time::timeout_at(self.patience_ends, changed).await;
            waited.map_err(|_| Status::unavailable("SVID is not signed yet; try again"))?
        };
        changed.map_err(|_| Status::unavailable("agent is stopping"))
    }
}

/// The SVIDs of all matching entries that have a valid one; `None` until there is one.
fn x509_svids(cache: &Cache, entries: &[&Arc<CachedEntry>], clock: Clock) -> Option<X509svidResponse> {
    let bundle = Bytes::from(cache.bundle.as_ref()?.x509_der());
    let now = clock.now();
    let mut hints = std::collections::HashSet::new();
    let svids = entries.iter().filter_map(|entry| {
        let svid = cache.svids.get(&entry.id);
        let svid = svid.filter(|svid| svid.not_after > now && cache.standing(svid) != Standing::Void)?;
        // A hint means one SVID of a response (§5.2.1); the oldest entry has it.
        let hint = if hints.insert(entry.hint.clone()) {
            entry.hint.clone()
        } else {
            String::new()
        };
        Some(X509svid {
            spiffe_id: entry.spiffe_id.to_string(),
            x509_svid: svid.chain.clone(),
            x509_svid_key: Bytes::copy_from_slice(&svid.key),
            bundle: bundle.clone(),
            hint,
        })
    });
    let svids: Vec<_> = svids.collect();
    let federated_bundles = HashMap::new();
    (!svids.is_empty()).then(|| X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles,
    })
}
