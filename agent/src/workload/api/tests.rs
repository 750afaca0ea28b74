use futures::StreamExt;
use svid::{Selector, Timestamp, TrustDomain};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::cache::{
    Keeper, Pushed, Signer,
    testing::{SELECTOR, entry, svid},
};

/// A Workload API whose SVIDs are signed when the test says so.
struct Bench {
    service: Service,
    course: watch::Sender<Course>,
    sign: mpsc::UnboundedSender<()>,
}

impl Bench {
    async fn with(entries: Vec<CachedEntry>) -> Self {
        let (sign, may_sign) = mpsc::unbounded_channel();
        let may_sign = Arc::new(tokio::sync::Mutex::new(may_sign));
        let signer: Signer = Arc::new(move |entries| {
            let may_sign = Arc::clone(&may_sign);
            Box::pin(async move {
                may_sign.lock().await.recv().await.unwrap();
                Ok(entries.iter().map(|entry| Some(svid(entry))).collect())
            })
        });
        let clock = Clock::pinned(Timestamp::from_unix(0));
        let (keeper, handle) = Keeper::new(signer, clock);
        tokio::spawn(keeper.run());
        let (course, followed) = watch::channel(Course::Serve);
        let bench = Self {
            service: Service {
                streams: Gauge::default(),
                keeper: handle,
                attestors: [].into(),
                clock,
                course: followed,
            },
            course,
            sign,
        };
        bench.push(entries).await;
        bench
    }

    async fn push(&self, entries: Vec<CachedEntry>) {
        let bundle = Arc::new(Bundle::empty(TrustDomain::parse("td").unwrap()));
        let pushed = Pushed {
            bundle: Some(bundle),
            entries,
            ..Pushed::default()
        };
        self.service.keeper.push(pushed).await;
    }

    fn sign(&self) {
        self.sign.send(()).unwrap();
    }

    fn fetch(&self, selector: &str) -> BoxStream<X509svidResponse> {
        let selector: Selector = selector.parse().unwrap();
        let caller = Identified {
            selectors: [selector].into_iter().collect(),
            _open: Gauge::default().hold(),
            _permit: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        let clock = self.service.clock;
        let respond = move |cache: &Cache, entries: &[&Arc<CachedEntry>]| x509_svids(cache, entries, clock);
        self.service.stream(caller, respond).unwrap().into_inner()
    }
}

async fn next(stream: &mut BoxStream<X509svidResponse>) -> Result<X509svidResponse, Status> {
    let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
    next.expect("the stream says nothing").unwrap()
}

async fn ids(stream: &mut BoxStream<X509svidResponse>) -> Vec<String> {
    let response = next(stream).await.unwrap();
    response.svids.into_iter().map(|svid| svid.spiffe_id).collect()
}

async fn refusal(stream: &mut BoxStream<X509svidResponse>) -> (tonic::Code, String) {
    let status = next(stream).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn who_an_entry_matches_since_its_change_gets_nothing_of_its_old_identity() {
    let bench = Bench::with(vec![entry("e", "/root-svc")]).await;
    bench.sign();
    assert_eq!(ids(&mut bench.fetch(SELECTOR)).await, ["spiffe://td/root-svc"]);

    let selector: Selector = "unix:uid:1001".parse().unwrap();
    let changed = CachedEntry {
        selectors: [selector].into_iter().collect(),
        revision: 1,
        ..entry("e", "/web")
    };
    bench.push(vec![changed]).await;

    let (code, message) = refusal(&mut bench.fetch("unix:uid:1001")).await;
    assert_eq!(
        (code, message.as_str()),
        (tonic::Code::Unavailable, "SVID is not signed yet; try again")
    );
    bench.sign();
    assert_eq!(ids(&mut bench.fetch("unix:uid:1001")).await, ["spiffe://td/web"]);
}

#[tokio::test(start_paused = true)]
async fn crls_reach_streams_that_are_open() {
    let bench = Bench::with(vec![entry("e", "/web")]).await;
    bench.sign();
    let mut stream = bench.fetch(SELECTOR);
    assert!(next(&mut stream).await.unwrap().crl.is_empty());
    for crls in [&["first"][..], &["second", "third"]] {
        let crls: Arc<[Bytes]> = crls.iter().map(|crl| Bytes::from(*crl)).collect();
        let pushed = Pushed {
            crls: Some(Arc::clone(&crls)),
            ..Pushed::default()
        };
        bench.service.keeper.push(pushed).await;
        assert_eq!(next(&mut stream).await.unwrap().crl, *crls);
    }
}

#[tokio::test(start_paused = true)]
async fn entries_for_a_store_are_not_served() {
    let stored = CachedEntry {
        is_for_store: true,
        ..entry("e", "/stored")
    };
    let bench = Bench::with(vec![stored]).await;
    let (code, message) = refusal(&mut bench.fetch(SELECTOR)).await;
    assert_eq!(
        (code, message.as_str()),
        (tonic::Code::PermissionDenied, "no identity issued")
    );
}

#[tokio::test(start_paused = true)]
async fn svids_on_demand_follow_one_that_is_there() {
    let bench = Bench::with(vec![entry("e", "/web")]).await;
    bench.sign();
    assert_eq!(ids(&mut bench.fetch(SELECTOR)).await, ["spiffe://td/web"]);
    let lazy = CachedEntry {
        on_demand: true,
        created_at: 1,
        ..entry("lazy", "/lazy")
    };
    bench.push(vec![lazy]).await;

    let mut stream = bench.fetch(SELECTOR);
    assert_eq!(ids(&mut stream).await, ["spiffe://td/web"]);
    bench.sign();
    assert_eq!(ids(&mut stream).await, ["spiffe://td/web", "spiffe://td/lazy"]);
}

#[tokio::test(start_paused = true)]
async fn streams_say_why_they_end_when_the_agent_does() {
    let bench = Bench::with(vec![entry("e", "/web")]).await;
    bench.sign();
    let mut stream = bench.fetch(SELECTOR);
    ids(&mut stream).await;

    bench.course.send_replace(Course::Drain);

    let (code, message) = refusal(&mut stream).await;
    assert_eq!(
        (code, message.as_str()),
        (tonic::Code::Unavailable, "agent is stopping")
    );
}
