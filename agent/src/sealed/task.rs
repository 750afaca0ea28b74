//! The task that owns the file and its key.

use std::{io, sync::Arc, time::Duration};

use edge::Chain;
use plugin_api::{Sealed, SealedKey, Sealing};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{debug, error, info, warn};

use super::{
    Command, Mode, QUEUE, SealedHandle, SealedWith,
    content::{Content, ContentError, encode},
    decide::{self, Held, Opened, Urgency},
    disk::Disk,
    file::{Envelope, FileError, KeyInFile},
    tpm::{self, Done, Work},
};
use crate::{attest::AttestError, cache::Cache};

/// The task.
pub struct SealedState {
    with: SealedWith,
    disk: Disk,
    commands: mpsc::Receiver<Command>,
    cache: watch::Receiver<Arc<Cache>>,
    /// The state whose losses are out of the file.
    settled: watch::Sender<u64>,
    /// What the server says that state may be sealed to.
    accepted: Option<Sealing>,
    /// The key of the file.
    key: Option<(KeyInFile, SealedKey)>,
    /// What the TPM is at.
    work: Option<Work>,
    held: Held,
    /// The host lost its standing since the server accepted it last: no file is opened.
    is_void: bool,
    /// The file is to be gone, and may be there.
    owes_deletion: bool,
    /// When the file is to be written.
    write_at: Option<Instant>,
    /// The disk failed: it is left alone until then.
    retry_at: Option<Instant>,
    /// The TPM did not seal: it is not asked before, and somebody was told.
    seal_after: Option<Instant>,
}

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file can't be written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

/// How long something new waits for more.
const DELAY: Duration = Duration::from_secs(1);
/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(10);
/// Pause after a failure of the disk.
const DISK_RETRY: Duration = Duration::from_secs(10);
/// Pause after a failure of the TPM.
const TPM_RETRY: Duration = Duration::from_secs(300);

impl SealedState {
    /// A task, and what reaches it.
    #[must_use]
    pub fn new(with: SealedWith) -> (Self, SealedHandle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (settled, followed) = watch::channel(0);
        let handle = SealedHandle {
            commands: sender,
            settled: followed,
        };
        let task = Self {
            disk: Disk::new(with.path.clone()),
            cache: with.keeper.cache(),
            with,
            commands,
            settled,
            accepted: None,
            key: None,
            work: None,
            held: Held::Unknown,
            is_void: false,
            owes_deletion: false,
            write_at: None,
            retry_at: None,
            seal_after: None,
        };
        (task, handle)
    }

    /// Runs until nobody can reach it any more.
    pub async fn run(mut self) {
        if self.with.mode == Mode::Off && self.delete().await {
            info!(path = %self.disk.path().display(), "Sealed state deleted: it is switched off");
        }
        loop {
            let look = self.next_look();
            tokio::select! {
                biased;
                // A host that lost its standing goes by nothing that was opened meanwhile.
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                Ok(()) = self.cache.changed() => {}
                done = tpm::done(&mut self.work) => self.take(done).await,
                () = tokio::time::sleep(look) => {}
            }
            self.look().await;
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Accepted(sealing) => {
                match sealing {
                    Some(_) => self.is_void = false,
                    None => self.key = None,
                }
                self.accepted = sealing;
            }
            Command::Serve => self.begin_unsealing().await,
            Command::Void(done) => {
                (self.work, self.key, self.accepted, self.is_void) = (None, None, None, true);
                if self.delete().await {
                    self.note("void");
                    info!(path = %self.disk.path().display(), "Sealed state deleted: the host lost its standing");
                }
                // Whoever asked may have gone.
                let _gone = done.send(());
            }
        }
    }

    /// Brings the file to what the agent holds.
    async fn look(&mut self) {
        let cache = Arc::clone(&self.cache.borrow_and_update());
        self.retry_at.take_if(|at| *at <= Instant::now());
        if self.owes_deletion && self.retry_at.is_none() && self.delete().await {
            info!(path = %self.disk.path().display(), "Sealed state deleted");
        }
        if self.with.mode == Mode::Auto && cache.is_synced {
            self.follow(&cache).await;
        }
        if !matches!(self.held, Held::Unknown) {
            self.settled.send_replace(cache.number);
        }
    }

    async fn follow(&mut self, cache: &Cache) {
        let wanted = decide::keepable(cache, self.with.clock.now());
        self.begin_sealing(wanted.is_some());
        if self.retry_at.is_some() {
            return;
        }
        // What is there without a key that fits is out of date.
        let wanted = wanted.filter(|_| self.key.is_some());
        match decide::urgency(&self.held, wanted.as_ref()) {
            Urgency::Unneeded => (self.write_at, self.retry_at) = (None, None),
            Urgency::Soon if !self.is_time() => {}
            Urgency::AtOnce | Urgency::Soon => self.replace(wanted).await,
        }
    }

    fn is_time(&mut self) -> bool {
        let now = Instant::now();
        *self.write_at.get_or_insert(now + DELAY) <= now
    }

    async fn replace(&mut self, wanted: Option<Cache>) {
        self.write_at = None;
        let (Some(cache), Some((sealed, key))) = (wanted, self.key.clone()) else {
            if self.delete().await {
                info!(path = %self.disk.path().display(), "Sealed state deleted: it is out of date");
            }
            return;
        };
        let (content, pcrs) = (
            encode(&cache, self.with.clock.now()),
            sealed.sealing.pcrs().clone(),
        );
        let (disk, trust_domain) = (self.disk.clone(), self.with.trust_domain.clone());
        let written = blocking(move || -> Result<(), Unwritten> {
            Ok(disk.write(&sealed.close(&key, content, &trust_domain)?)?)
        });
        match written.await {
            Ok(()) => {
                self.note("written");
                self.with.meters.svids.set(cache.svids.len());
                debug!(count = cache.svids.len(), %pcrs, "Sealed state written");
                (self.held, self.owes_deletion) = (Held::State(Arc::new(cache)), false);
            }
            Err(error) => {
                self.note("failed");
                error!(path = %self.disk.path().display(), error = %Chain(&error), "Sealed state not written; a restart while the server is away serves nothing");
                self.delete().await;
                self.retry_at = Some(Instant::now() + DISK_RETRY);
            }
        }
    }

    /// Leaves nothing on the disk. Answers whether there was something.
    async fn delete(&mut self) -> bool {
        self.with.meters.svids.set(0);
        self.owes_deletion = true;
        let disk = self.disk.clone();
        match blocking(move || disk.remove()).await {
            Ok(was_there) => {
                (self.held, self.owes_deletion, self.retry_at) = (Held::Nothing, false, None);
                was_there
            }
            Err(error) => {
                error!(path = %self.disk.path().display(), error = %Chain(&error), "Sealed state not deleted; remove it, or a restart while the server is away may serve what is void");
                (self.held, self.retry_at) = (Held::Unknown, Some(Instant::now() + DISK_RETRY));
                false
            }
        }
    }

    /// Has a key sealed to what the server accepted, if there is something to keep and the key in use is of another state.
    fn begin_sealing(&mut self, has_content: bool) {
        let Some(accepted) = &self.accepted else { return };
        let key = self.key.as_ref();
        let is_sealed = key.is_some_and(|(key, _)| key.sealing == *accepted);
        let waits = self.seal_after.is_some_and(|after| after > Instant::now());
        if has_content && !is_sealed && !waits && self.work.is_none() {
            self.work = Some(tpm::seal(self.with.prover.clone(), accepted.clone()));
        }
    }

    /// Has the key of the file opened, if nothing better is known.
    async fn begin_unsealing(&mut self) {
        let is_synced = self.cache.borrow().is_synced;
        let is_unfit = self.is_void || self.owes_deletion;
        if self.with.mode == Mode::Off || self.work.is_some() || is_synced || is_unfit {
            return;
        }
        let disk = self.disk.clone();
        match blocking(move || disk.read()).await {
            Ok(None) => self.held = Held::Nothing,
            Ok(Some(bytes)) => match Envelope::parse(&bytes, &self.with.trust_domain) {
                Ok(file) => self.work = Some(tpm::unseal(self.with.prover.clone(), file)),
                Err(error) => self.discard(&error.into()).await,
            },
            Err(error) => {
                self.note("failed");
                warn!(path = %self.disk.path().display(), error = %Chain(&error), "Sealed state can't be read");
            }
        }
    }

    async fn take(&mut self, done: Done) {
        match done {
            Done::Sealed(sealing, sealed) => self.take_sealed(sealing, sealed),
            Done::Unsealed(file, key) => self.take_unsealed(*file, key).await,
        }
    }

    fn take_sealed(&mut self, sealing: Sealing, sealed: Result<Option<(Sealed, SealedKey)>, AttestError>) {
        match sealed {
            Ok(Some((sealed, key))) => {
                self.note("sealed");
                info!(pcrs = %sealing.pcrs(), "State is sealed to this host's TPM");
                self.key = Some((KeyInFile { sealing, sealed }, key));
                // What is there has another key.
                (self.held, self.seal_after) = (Held::Unknown, None);
            }
            Ok(None) => {
                debug!("This host seals nothing");
                self.with.mode = Mode::Off;
                self.write_at = None;
            }
            Err(error) => {
                self.note("failed");
                if self.seal_after.is_none() {
                    warn!(error = %Chain(&error), retry_in = ?TPM_RETRY, "State not sealed; a restart while the server is away serves nothing");
                }
                (self.key, self.seal_after) = (None, Some(Instant::now() + TPM_RETRY));
            }
        }
    }

    async fn take_unsealed(&mut self, file: Envelope, key: Result<Option<SealedKey>, AttestError>) {
        if self.cache.borrow().is_synced {
            // The server was heard meanwhile.
            return;
        }
        match key {
            Ok(Some(key)) => match self.read(file, &key) {
                Ok((content, sealed)) => self.serve(&content, (sealed, key)).await,
                Err(error) => self.discard(&error).await,
            },
            Ok(None) => {
                self.note("other_state");
                warn!(path = %self.disk.path().display(), pcrs = %file.key().sealing.pcrs(),
                    "Sealed state deleted: the PCRs hold something else than the server accepted, or another TPM sealed it");
                self.delete().await;
            }
            Err(error) => {
                self.note("failed");
                warn!(error = %Chain(&error), "Sealed state can't be opened now");
            }
        }
    }

    fn read(&self, file: Envelope, key: &SealedKey) -> Result<(Content, KeyInFile), Unusable> {
        let (content, sealed) = file.open(key)?;
        Ok((Content::decode(&content, &self.with.trust_domain)?, sealed))
    }

    async fn serve(&mut self, content: &Content, key: (KeyInFile, SealedKey)) {
        match decide::opened(content, self.with.clock.now()) {
            Opened::Ahead => {
                self.note("ahead");
                warn!(written_at = %content.written_at, "Sealed state not served: it was written later than this host's clock shows; is the clock right?");
            }
            Opened::Ended => {
                self.note("ended");
                info!("Sealed state deleted: everything in it has ended");
                self.delete().await;
            }
            Opened::Served(cache) => {
                self.note("served");
                warn!(count = cache.svids.len(), written_at = %content.written_at, "Serving sealed state until the server can be reached");
                self.key = Some(key);
                self.with.keeper.restore(*cache).await;
            }
        }
    }

    async fn discard(&mut self, why: &Unusable) {
        self.note("damaged");
        warn!(path = %self.disk.path().display(), error = %Chain(why), "Sealed state deleted: it can't be used");
        self.delete().await;
    }

    fn note(&self, outcome: &'static str) {
        self.with.meters.outcomes.count([outcome]);
    }

    /// Until something is due, or ends.
    fn next_look(&self) -> Duration {
        let due = self.retry_at.or(self.write_at);
        let due_in = due.map(|due| due.saturating_duration_since(Instant::now()));
        let ends_in = || Some(decide::next_end(&self.held)?.since(self.with.clock.now()));
        due_in.or_else(ends_in).unwrap_or(LOOK).min(LOOK)
    }
}

/// Has the disk do something.
async fn blocking<T, E>(act: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    let done = spawn_blocking(act).await;
    done.map_err(|_| io::Error::other("agent is stopping"))?
}

#[cfg(test)]
mod tests;
