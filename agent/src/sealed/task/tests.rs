use std::fs;

use attest::Name;
use edge::Clock;
use plugin_api::{Binding, NodeProver, ProverError};
use svid::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::{sync::oneshot, time::advance};

use super::*;
use crate::{attest::Prover, cache::Keeper, sealed::Meters};

/// A task whose steps the test takes.
struct Bench {
    task: SealedState,
    _handle: SealedHandle,
    _keeper: Keeper,
    _folder: TempDir,
}

/// Opens nothing.
struct Shut;

impl NodeProver for Shut {
    fn name(&self) -> &'static str {
        "test"
    }

    fn prepare(&mut self) -> Result<(), ProverError> {
        Ok(())
    }

    fn begin(&mut self, _: &Binding) -> Result<Vec<u8>, ProverError> {
        Ok(Vec::new())
    }

    fn answer(&mut self, _: &[u8]) -> Result<Vec<u8>, ProverError> {
        Ok(Vec::new())
    }
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let clock = Clock::pinned(Timestamp::from_unix(0));
        let (kept, keeper) = Keeper::new(Arc::new(|_| Box::pin(std::future::pending())), clock);
        let folder = tempfile::tempdir().unwrap();
        let (task, handle) = SealedState::new(SealedWith {
            mode,
            path: folder.path().join("sealed.state"),
            trust_domain: td(),
            prover: Prover::new(Box::new(Shut)),
            keeper,
            meters: Meters::default(),
            clock,
        });
        Self {
            task,
            _handle: handle,
            _keeper: kept,
            _folder: folder,
        }
    }

    /// Has the disk refuse to delete what is there.
    fn fail(&self) {
        fs::create_dir(self.task.disk.path()).unwrap();
    }

    /// The disk works again, and what was to be deleted is there.
    fn mend(&self) {
        fs::remove_dir(self.task.disk.path()).unwrap();
        self.put();
    }

    fn put(&self) {
        let file = key().close(&SealedKey::new([7; 32]), Vec::new().into(), &td());
        self.task.disk.write(&file.unwrap()).unwrap();
    }

    fn is_there(&self) -> bool {
        self.task.disk.path().exists()
    }

    async fn void(&mut self) {
        let (done, _) = oneshot::channel();
        self.task.obey(Command::Void(done)).await;
    }

    /// Whether the file is given to the TPM, if the server is away.
    async fn opens(&mut self) -> bool {
        self.task.obey(Command::Serve).await;
        self.task.work.take().is_some()
    }
}

fn td() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn key() -> KeyInFile {
    let pcrs: attest::PcrSelection = "sha256:0,7".parse().unwrap();
    let name = attest::HashAlg::Sha256.digest(&[b"storage key"]);
    KeyInFile {
        sealed: Sealed {
            public: vec![1; 46],
            private: vec![2; 126],
            pcrs: pcrs.clone(),
            parent: Some(Name::parse(&[&[0, 0x0b], name.as_bytes()].concat()).unwrap()),
        },
        sealing: Sealing::new(pcrs, [3; 32]).unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_failed_is_tried_again_whatever_else_is_known() {
    for mode in [Mode::Auto, Mode::Off] {
        let mut bench = Bench::new(mode);
        bench.fail();
        bench.void().await;
        bench.task.look().await;
        bench.mend();
        bench.task.look().await;
        assert!(bench.is_there(), "the disk is left alone for a while");
        advance(DISK_RETRY).await;
        bench.task.look().await;
        assert!(!bench.is_there(), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_goes_on_failing_is_not_asked_all_the_time() {
    let mut bench = Bench::new(Mode::Auto);
    bench.fail();
    bench.void().await;
    for _ in 0..3 {
        bench.task.look().await;
        assert_eq!(bench.task.next_look(), DISK_RETRY);
        advance(DISK_RETRY).await;
    }
    // Nor where it is known by now that nothing is to be deleted.
    bench.task.owes_deletion = false;
    bench.task.look().await;
    assert_eq!(bench.task.next_look(), LOOK);
}

#[tokio::test(start_paused = true)]
async fn what_is_void_is_not_opened_until_the_server_accepts_the_host() {
    let mut bench = Bench::new(Mode::Auto);
    bench.put();
    assert!(bench.opens().await);
    bench.void().await;
    assert!(!bench.is_there());
    bench.put();
    assert!(!bench.opens().await);
    bench.task.obey(Command::Accepted(None)).await;
    assert!(!bench.opens().await);
    bench.task.obey(Command::Accepted(Some(key().sealing))).await;
    assert!(bench.opens().await);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_deleted_is_not_opened() {
    let mut bench = Bench::new(Mode::Auto);
    bench.fail();
    assert!(!bench.task.delete().await);
    bench.mend();
    assert!(!bench.opens().await);
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_standing_goes_by_nothing_that_was_opened_meanwhile() {
    for _ in 0..20 {
        let Bench {
            mut task,
            _handle: handle,
            _keeper: keeper,
            _folder,
        } = Bench::new(Mode::Auto);
        let cache = task.cache.clone();
        // Both are ready when the task looks.
        task.work = Some(Box::pin(async {
            panic!("what was opened is taken before the order is heard")
        }));
        let voiding = handle.void();
        tokio::pin!(voiding);
        assert!(futures::poll!(&mut voiding).is_pending());
        let running = tokio::spawn(task.run());
        voiding.await;
        assert!(!running.is_finished());
        running.abort();
        assert!(!cache.borrow().is_synced);
        drop(keeper);
    }
}
