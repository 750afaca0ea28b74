use edge::Clock;
use svid::Timestamp;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::cache::testing::{entry, svid};

type Outcome = Result<Vec<Option<WorkloadSvid>>, SignError>;

/// Longer than any pause, and nothing on a paused clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// A keeper, and the server's part in signing.
struct Bench {
    handle: KeeperHandle,
    asked: mpsc::UnboundedReceiver<Asked>,
    _keeper: JoinHandle<()>,
}

/// What the keeper wants signed.
struct Asked {
    entries: Vec<Arc<CachedEntry>>,
    at: Instant,
    answer: oneshot::Sender<Outcome>,
}

impl Asked {
    fn ids(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.id.as_ref()).collect()
    }

    fn sign(self) {
        self.sign_unless(|_| false);
    }

    fn sign_unless(self, is_refused: impl Fn(&str) -> bool) {
        let sign = |entry: &Arc<CachedEntry>| (!is_refused(&entry.id)).then(|| svid(entry));
        let signed = self.entries.iter().map(sign).collect();
        drop(self.answer.send(Ok(signed)));
    }

    fn fail(self, error: SignError) {
        drop(self.answer.send(Err(error)));
    }
}

impl Bench {
    fn new() -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        let signer: Signer = Arc::new(move |entries| {
            let (answer, answered) = oneshot::channel();
            let at = Instant::now();
            ask.send(Asked { entries, at, answer }).unwrap();
            Box::pin(async { answered.await.unwrap_or(Err(SignError::NotConnected)) })
        });
        let (keeper, handle) = Keeper::new(signer, Clock::pinned(Timestamp::from_unix(0)));
        Self {
            handle,
            asked,
            _keeper: tokio::spawn(keeper.run()),
        }
    }

    async fn push(&self, entries: Vec<CachedEntry>) {
        let pushed = Pushed {
            entries,
            ..Pushed::default()
        };
        self.handle.push(pushed).await;
    }

    async fn asked(&mut self) -> Asked {
        let asked = tokio::time::timeout(PATIENCE, self.asked.recv()).await;
        asked.expect("the keeper asks for nothing").unwrap()
    }

    /// The paths that there is an SVID of, once `count` are there.
    async fn served(&self, count: usize) -> Vec<String> {
        let mut cache = self.handle.cache();
        let there = cache.wait_for(|cache| cache.svids.len() == count);
        let there = tokio::time::timeout(PATIENCE, there).await;
        let state = there.expect("another number of SVIDs is there").unwrap();
        let paths = state.svids.values().map(|svid| svid.spiffe_id.path().to_owned());
        paths.collect()
    }
}

fn changed(id: &str, path: &str, revision: i64) -> CachedEntry {
    CachedEntry {
        revision,
        ..entry(id, path)
    }
}

fn on_demand(id: &str) -> CachedEntry {
    CachedEntry {
        on_demand: true,
        ..entry(id, "/lazy")
    }
}

fn refusal(hint: Option<Duration>) -> SignError {
    use prost::Message;
    use proto::google::rpc;
    let info = hint.map(|hint| prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
        value: rpc::RetryInfo {
            retry_delay: Some(hint.try_into().unwrap()),
        }
        .encode_to_vec(),
    });
    let details = rpc::Status {
        details: info.into_iter().collect(),
        ..rpc::Status::default()
    };
    let details = details.encode_to_vec().into();
    let code = tonic::Code::ResourceExhausted;
    SignError::Call(Box::new(tonic::Status::with_details(code, "too many", details)))
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_to_give_another_identity_loses_the_old_one_at_once() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/root-svc")]).await;
    bench.asked().await.sign();
    assert_eq!(bench.served(1).await, ["/root-svc"]);

    bench.push(vec![changed("e", "/web", 1)]).await;

    assert_eq!(bench.handle.cache().borrow().svids.len(), 0);
    bench.asked().await.sign();
    assert_eq!(bench.served(1).await, ["/web"]);
}

#[tokio::test(start_paused = true)]
async fn dns_names_are_part_of_the_identity() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    bench.asked().await.sign();
    bench.served(1).await;

    let named = CachedEntry {
        dns_names: ["db.example.org".parse().unwrap()].into(),
        ..changed("e", "/web", 1)
    };
    bench.push(vec![named]).await;

    assert_eq!(bench.handle.cache().borrow().svids.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_goes_on_giving_the_same_identity_keeps_it_until_the_new_one_is_signed() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    bench.asked().await.sign();
    bench.served(1).await;

    bench.push(vec![changed("e", "/web", 1)]).await;

    assert_eq!(bench.served(1).await, ["/web"]);
    assert_eq!(bench.asked().await.ids(), ["e"]);
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_comes_too_late_is_dropped() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/root-svc")]).await;
    let late = bench.asked().await;
    bench.push(vec![changed("e", "/web", 1)]).await;

    late.sign();

    let again = bench.asked().await;
    assert_eq!(bench.handle.cache().borrow().svids.len(), 0);
    again.sign();
    assert_eq!(bench.served(1).await, ["/web"]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_voids_what_is_there_and_what_is_being_signed() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    bench.asked().await.sign();
    bench.served(1).await;
    bench.push(vec![entry("f", "/db")]).await;
    let under_way = bench.asked().await;

    bench.handle.withdraw().await;

    bench.served(0).await;
    assert!(under_way.answer.is_closed());
    bench.push(vec![entry("f", "/db")]).await;
    assert_eq!(bench.handle.cache().borrow().svids.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_survives_a_failure() {
    let mut bench = Bench::new();
    bench.push(vec![on_demand("lazy")]).await;
    bench.handle.want(vec!["lazy".into(), "unknown".into()]).await;
    bench.asked().await.fail(refusal(None));

    let again = bench.asked().await;

    assert_eq!(again.ids(), ["lazy"]);
    again.sign();
    assert_eq!(bench.served(1).await, ["/lazy"]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_survives_a_full_batch() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..=BATCH).map(|number| format!("lazy{number:04}")).collect();
    bench.push(ids.iter().map(|id| on_demand(id)).collect()).await;
    bench
        .handle
        .want(ids.iter().map(|id| id.as_str().into()).collect())
        .await;

    let first = bench.asked().await;
    assert_eq!(first.entries.len(), BATCH);
    first.sign();
    let second = bench.asked().await;
    assert_eq!(second.ids(), ["lazy0500"]);
    second.sign();

    bench.served(BATCH + 1).await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_followed_by_ever_longer_pauses() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    let mut last = bench.asked().await;
    for longest in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        let failed_at = last.at;
        last.fail(refusal(None));
        last = bench.asked().await;
        let pause = last.at - failed_at;
        let longest = Duration::from_millis(longest);
        // The timer counts in whole milliseconds.
        let slack = Duration::from_millis(2);
        assert!(pause >= longest / 2 && pause <= longest + slack, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_left_alone_as_long_as_it_asks_for() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    let first = bench.asked().await;
    let failed_at = first.at;
    first.fail(refusal(Some(Duration::from_secs(20))));
    // News from the server is no reason to ask it earlier.
    bench.push(vec![entry("f", "/db")]).await;

    let again = bench.asked().await;

    assert!(again.at - failed_at >= Duration::from_secs(20));
    assert_eq!(again.ids(), ["e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_refused_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.push(vec![entry("bad", "/bad")]).await;
    let began = Instant::now();
    for _ in 0..4 {
        bench.asked().await.sign_unless(|id| id == "bad");
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    let before = Instant::now();

    bench.push(vec![entry("good", "/good")]).await;

    let asked = bench.asked().await;
    assert_eq!(asked.ids(), ["good"]);
    assert_eq!(asked.at, before);
    asked.sign();
    assert_eq!(bench.served(1).await, ["/good"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_ends_every_pause() {
    let mut bench = Bench::new();
    bench.push(vec![entry("e", "/web")]).await;
    bench.asked().await.fail(SignError::NotConnected);
    let lost = bench.asked().await;
    assert!(lost.at.elapsed() <= LOOK);
    let before = Instant::now();

    bench.handle.connected().await;

    let asked = bench.asked().await;
    assert_eq!(asked.at, before);
    assert!(lost.answer.is_closed());
    asked.sign();
    assert_eq!(bench.served(1).await, ["/web"]);
}

/// A state with one entry and its SVID.
fn kept(id: &str, path: &str) -> Cache {
    let entry = entry(id, path);
    Cache {
        svids: [(Arc::clone(&entry.id), Arc::new(svid(&entry)))].into(),
        entries: [(Arc::clone(&entry.id), Arc::new(entry))].into(),
        ..Cache::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_served_until_the_server_is_heard() {
    let mut bench = Bench::new();
    // That a host with nothing is refused says nothing to workloads.
    bench.handle.deny().await;
    bench.handle.restore(kept("e", "/web")).await;
    assert_eq!(bench.served(1).await, ["/web"]);
    let cache = bench.handle.cache();
    let state = || (cache.borrow().is_synced, cache.borrow().is_restored);
    assert_eq!(state(), (true, true));

    bench.push(vec![entry("f", "/db")]).await;
    bench.asked().await.sign();
    assert_eq!(bench.served(2).await, ["/web", "/db"]);
    assert_eq!(state(), (true, false));

    // Too late: the server was heard.
    bench.handle.restore(kept("g", "/old")).await;
    bench.push(vec![]).await;
    assert_eq!(bench.served(2).await, ["/web", "/db"]);
    assert_eq!(state(), (true, false));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_refused_serves_nothing_of_what_was_kept() {
    let bench = Bench::new();
    bench.handle.restore(kept("e", "/web")).await;
    assert_eq!(bench.served(1).await, ["/web"]);

    bench.handle.deny().await;

    assert!(bench.served(0).await.is_empty());
    assert!(bench.handle.cache().borrow().entries.is_empty());
}
