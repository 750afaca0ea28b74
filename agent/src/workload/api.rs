//! The Workload API's methods.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge::{
    Clock,
    grpc::Course,
    metrics::{Gauge, Held},
};
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
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};
use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};

use super::{Connection, end_of_serving, shares};
use crate::{
    cache::{Cache, CachedEntry, Delivery, KeeperHandle},
    workload_svid::WorkloadSvid,
};

pub(super) struct Service {
    pub(super) keeper: KeeperHandle,
    pub(super) attestors: Arc<[Arc<dyn WorkloadAttestor>]>,
    pub(super) streams: Gauge,
    pub(super) clock: Clock,
    pub(super) course: watch::Receiver<Course>,
}

/// Who calls: what they show, and their place among the calls of their user.
struct Identified {
    selectors: SelectorSet,
    _permit: OwnedSemaphorePermit,
    _open: Held,
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
        let caller = self.identify(&request).await?;
        let clock = self.clock;
        self.stream(caller, move |cache, entries| x509_svids(cache, entries, clock))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<BoxStream<X509BundlesResponse>>, Status> {
        let caller = self.identify(&request).await?;
        self.stream(caller, |cache, _| {
            Answer::of(cache.bundle.as_ref().map(|bundle| X509BundlesResponse {
                crl: cache.crls.to_vec(),
                bundles: HashMap::from([(id(bundle), Bytes::from(bundle.x509_der()))]),
            }))
        })
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<BoxStream<JwtBundlesResponse>>, Status> {
        let caller = self.identify(&request).await?;
        self.stream(caller, |cache, _| {
            Answer::of(cache.bundle.as_ref().map(|bundle| JwtBundlesResponse {
                bundles: HashMap::from([(id(bundle), Bytes::from(bundle.to_jwt_jwks()))]),
            }))
        })
    }
}

fn id(bundle: &Bundle) -> String {
    bundle.trust_domain.id().to_string()
}

impl Service {
    async fn identify<T>(&self, request: &Request<T>) -> Result<Identified, Status> {
        let connection = request.extensions().get::<Arc<Connection>>();
        let connection = connection.ok_or_else(|| Status::internal("BUG: request without caller"))?;
        let permit = connection.share.call().ok_or_else(|| {
            let limit = shares::STREAMS;
            Status::resource_exhausted(format!("this user has {limit} calls open already"))
        })?;
        let identified = connection.caller.identify(&self.attestors).await;
        let selectors = identified.map_err(|error| Status::unavailable(edge::Chain(&error).to_string()))?;
        Ok(Identified {
            selectors,
            _permit: permit,
            _open: self.streams.hold(),
        })
    }

    /// A stream that says what `respond` makes of each state that matters to the caller.
    fn stream<T: Clone + PartialEq + Send + 'static>(
        &self,
        caller: Identified,
        respond: impl Fn(&Cache, &[&Arc<CachedEntry>]) -> Answer<T> + Send + 'static,
    ) -> Result<Response<BoxStream<T>>, Status> {
        let cache = self.keeper.cache();
        let (is_synced, number) = {
            let state = cache.borrow();
            (state.is_synced, state.number)
        };
        if !is_synced {
            return Err(Status::unavailable(
                "agent has no identities from the server yet; try again",
            ));
        }
        let follower = Follower {
            cache,
            course: self.course.clone(),
            delivery: self.keeper.deliveries().register(number),
            keeper: self.keeper.clone(),
            caller,
            respond,
            said: None,
            number,
            patience_ends: Instant::now() + SIGNED_WITHIN,
        };
        Ok(Response::new(Box::pin(states(follower))))
    }
}

/// What there is to say of a state.
struct Answer<T> {
    /// `None` where there is nothing to say yet.
    response: Option<T>,
    /// Entries whose SVID is signed on demand, and is not there yet.
    missing: Vec<Arc<str>>,
}

impl<T> Answer<T> {
    fn of(response: Option<T>) -> Self {
        Self {
            response,
            missing: Vec::new(),
        }
    }
}

/// Follows the cache for one stream.
struct Follower<T, F> {
    cache: watch::Receiver<Arc<Cache>>,
    course: watch::Receiver<Course>,
    keeper: KeeperHandle,
    delivery: Delivery,
    caller: Identified,
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
    F: Fn(&Cache, &[&Arc<CachedEntry>]) -> Answer<T> + Send,
{
    futures::stream::try_unfold(follower, Follower::advance)
}

impl<T, F> Follower<T, F>
where
    T: Clone + PartialEq + Send,
    F: Fn(&Cache, &[&Arc<CachedEntry>]) -> Answer<T> + Send,
{
    async fn advance(mut self) -> Result<Option<(T, Self)>, Status> {
        // Being asked for more means that what was said before is on its way.
        self.delivery.passed_on(self.number);
        loop {
            let state = Arc::clone(&self.cache.borrow_and_update());
            self.number = state.number;
            let answer = self.read(&state)?;
            if !answer.missing.is_empty() {
                self.keeper.want(answer.missing).await;
            }
            if let Some(response) = answer.response.filter(|now| self.said.as_ref() != Some(now)) {
                self.said = Some(response.clone());
                return Ok(Some((response, self)));
            }
            self.delivery.passed_on(self.number);
            self.wait().await?;
        }
    }

    fn read(&self, state: &Cache) -> Result<Answer<T>, Status> {
        let matching = state.matching(&self.caller.selectors);
        if matching.is_empty() {
            return Err(no_identity());
        }
        Ok((self.respond)(state, &matching))
    }

    /// Waits for another state; a caller who got nothing yet is not kept waiting for ever.
    async fn wait(&mut self) -> Result<(), Status> {
        let is_patient = self.said.is_some();
        tokio::select! {
            Ok(()) = self.cache.changed() => Ok(()),
            () = end_of_serving(&mut self.course) => Err(Status::unavailable("agent is stopping")),
            () = tokio::time::sleep_until(self.patience_ends), if !is_patient => {
                Err(Status::unavailable("SVID is not signed yet; try again"))
            }
            else => Err(Status::unavailable("agent is stopping")),
        }
    }
}

/// The SVIDs of all matching entries that have a valid one; no response until there is one.
fn x509_svids(cache: &Cache, entries: &[&Arc<CachedEntry>], clock: Clock) -> Answer<X509svidResponse> {
    let now = clock.now();
    let is_good = |svid: &&Arc<WorkloadSvid>| svid.not_after > now && cache.standing(svid) != Standing::Void;
    let valid = |entry: &CachedEntry| cache.svid(entry).filter(is_good);
    let missing = entries
        .iter()
        .filter(|entry| entry.on_demand && valid(entry).is_none());
    let missing = missing.map(|entry| Arc::clone(&entry.id)).collect();
    let bundle = cache.bundle.as_ref().map(|bundle| Bytes::from(bundle.x509_der()));
    let mut hints = std::collections::HashSet::new();
    let svids = entries.iter().filter_map(|entry| {
        let svid = valid(entry)?;
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
            bundle: bundle.clone()?,
            hint,
        })
    });
    let svids: Vec<_> = svids.collect();
    let response = (!svids.is_empty()).then(|| X509svidResponse {
        svids,
        crl: cache.crls.to_vec(),
        federated_bundles: HashMap::new(),
    });
    Answer { response, missing }
}

#[cfg(test)]
mod tests;
