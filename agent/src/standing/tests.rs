use edge::Clock;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    attest::Prover,
    cache::{Cache, Keeper, testing},
    sealed::{Meters, Mode, SealedState, SealedWith},
};

/// What workloads are served from, and a task whose disk hangs.
struct Bench {
    keeper: KeeperHandle,
    sealed: SealedHandle,
    _hangs: SealedState,
    _folder: TempDir,
}

struct NoTpm;

impl plugin_api::NodeProver for NoTpm {
    fn name(&self) -> &'static str {
        "test"
    }

    fn prepare(&mut self) -> Result<(), plugin_api::ProverError> {
        Ok(())
    }

    fn begin(&mut self, _: &plugin_api::Binding) -> Result<Vec<u8>, plugin_api::ProverError> {
        Ok(Vec::new())
    }

    fn answer(&mut self, _: &[u8]) -> Result<Vec<u8>, plugin_api::ProverError> {
        Ok(Vec::new())
    }
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::pinned(Timestamp::from_unix(0));
        let (task, keeper) = Keeper::new(Arc::new(|_| Box::pin(std::future::pending())), clock);
        tokio::spawn(task.run());
        let folder = tempfile::tempdir().unwrap();
        let (hangs, sealed) = SealedState::new(SealedWith {
            mode: Mode::Auto,
            path: folder.path().join("sealed.state"),
            trust_domain: svid::TrustDomain::parse("td").unwrap(),
            prover: Prover::new(Box::new(NoTpm)),
            keeper: keeper.clone(),
            meters: Meters::default(),
            clock,
        });
        Self {
            keeper,
            sealed,
            _hangs: hangs,
            _folder: folder,
        }
    }

    /// Workloads are served this SVID.
    async fn serve(&self) {
        let mut cache = Cache::default();
        let entry = Arc::new(testing::entry("a", "/web"));
        let svid = Arc::new(testing::svid(&entry));
        cache.svids.insert(Arc::clone(&entry.id), svid);
        cache.entries.insert(Arc::clone(&entry.id), entry);
        self.keeper.restore(cache).await;
        self.are_served(1).await;
    }

    async fn are_served(&self, svids: usize) {
        let mut cache = self.keeper.cache();
        let served = cache.wait_for(|cache| cache.is_synced && cache.svids.len() == svids);
        assert!(timeout(SOON, served).await.is_ok(), "{svids} SVIDs");
    }
}

/// Less than anything waits for the disk.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_is_withdrawn_is_gone_at_once_while_the_disk_hangs() {
    let bench = Bench::new();
    bench.serve().await;
    tokio::join!(take_away(&bench.sealed, &bench.keeper), bench.are_served(0));
}

#[tokio::test(start_paused = true)]
async fn what_was_opened_is_gone_at_once_where_the_host_is_denied_while_the_disk_hangs() {
    let bench = Bench::new();
    bench.serve().await;
    tokio::join!(deny(&bench.sealed, &bench.keeper), bench.are_served(0));
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_while_the_host_is_denied_is_gone_in_any_case() {
    let bench = Bench::new();
    let serving = async {
        tokio::time::sleep(SOON).await;
        bench.serve().await;
    };
    tokio::join!(deny(&bench.sealed, &bench.keeper), serving);
    bench.are_served(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_does_not_keep_the_agent_from_its_server() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.sealed.serve();
    }
    bench.sealed.accepted(None).await;
    bench.sealed.void().await;
}

#[test]
fn state_is_opened_only_where_the_server_is_away() {
    let check = |error: StandingError, is_away: bool| {
        let ended = Timestamp::from_unix(0);
        assert_eq!(error.is_server_away(), is_away, "{error}");
        let error = StandingError::Ended {
            ended,
            now: ended,
            source: Box::new(error),
        };
        assert_eq!(error.is_server_away(), is_away, "{error}");
    };
    let refused = |status| StandingError::Attest(AttestError::Refused(Box::new(status)));
    let prover = |error: plugin_api::TpmError| StandingError::Attest(AttestError::Prover(error.into()));
    let late = StandingError::Late {
        what: "attestation",
        limit: SOON,
    };
    check(DialError::Name("\u{0}".into()).into(), true);
    check(Lost.into(), true);
    check(AttestError::Lost(Lost).into(), true);
    check(SessionError::Lost(Lost).into(), true);
    check(late, true);
    check(refused(tonic::Status::unavailable("away")), true);
    check(refused(tonic::Status::resource_exhausted("too much to do")), true);
    check(
        StandingError::Renew(Box::new(tonic::Status::internal("full"))),
        true,
    );
    check(refused(tonic::Status::permission_denied("no")), false);
    check(refused(tonic::Status::invalid_argument("what?")), false);
    check(
        SessionError::from(tonic::Status::unauthenticated("who?")).into(),
        false,
    );
    check(prover(plugin_api::TpmError::InterposerSuspected), false);
    check(prover(plugin_api::TpmError::NoEndorsementKey), false);
    check(AttestError::Unexpected("a result").into(), false);
    check(StandingError::BadSvid("it is empty".into()), false);
}

#[test]
fn an_interposer_is_told_from_other_failures() {
    let prover = |error: plugin_api::TpmError| StandingError::Attest(AttestError::Prover(error.into()));
    assert!(prover(plugin_api::TpmError::InterposerSuspected).is_interposer_suspected());
    assert!(!prover(plugin_api::TpmError::Stopped).is_interposer_suspected());
    assert!(!StandingError::Lost(Lost).is_interposer_suspected());
}
