//! Taking a backup: into an unnamed file of the data directory, so that neither a slow reader nor a lost one holds
//! anything up.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use edge::Clock;
use proto::plastron::backup::v1 as stored;
use svid::TrustDomain;

use super::{FileError, Part, Writer};
use crate::{
    journal::{AppendError, Journal, Record},
    store::{self, Store, StoreError},
};

/// What a backup is taken of.
#[derive(Clone, Debug)]
pub struct Source {
    /// The store.
    pub store: Arc<Store>,
    /// The audit trail.
    pub journal: Journal,
    /// The key file, if keys are kept in one.
    pub keys_path: Option<PathBuf>,
    /// Where there is room for a copy.
    pub data_dir: PathBuf,
    /// Whose state it is.
    pub trust_domain: TrustDomain,
    /// The time.
    pub clock: Clock,
}

/// A backup that was taken, to be read from its begin.
#[derive(Debug)]
pub struct Spool {
    /// Its bytes. Nobody else can open them.
    pub file: File,
    /// How many there are.
    pub len: u64,
}

/// A backup can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It can't be audited, and so is not given away.
    #[error(transparent)]
    Audit(#[from] AppendError),
    /// The copy can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The keys can't be read.
    #[error("cannot read the key file `{}`", path.display())]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The copy can't be made.
    #[error("cannot make a copy in the data directory")]
    Spool(#[from] io::Error),
    /// The server is ending.
    #[error("server is stopping")]
    Stopped,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Everything but where the audit trail stands.
struct Copy {
    writer: Writer<BufWriter<File>>,
    revision: u64,
    has_keys: bool,
}

impl Source {
    /// Takes a backup for `actor`.
    ///
    /// # Errors
    ///
    /// It can't be taken; there is nothing to clean up.
    pub async fn take(self, actor: &str) -> Result<Spool, TakeError> {
        let journal = self.journal.clone();
        let copied = tokio::task::spawn_blocking(move || self.copy()).await;
        let copy = copied.map_err(|_| TakeError::Stopped)??;
        // Signing keys leave the server: that is known before the first byte does.
        let record = Record::new("backup_taken", &actor)
            .with("revision", &copy.revision)
            .with("records", &copy.writer.records())
            .with("has_keys", &copy.has_keys);
        let head = journal.append_for_head(vec![record]).await?;
        let trail = stored::Trail {
            next_sequence: head.next,
            hash: head.hash.into(),
        };
        let ended = tokio::task::spawn_blocking(move || copy.end(trail)).await;
        ended.map_err(|_| TakeError::Stopped)?
    }

    /// The store comes before the keys: no authority that is in it lacks its key then, because a key is kept before
    /// its authority is.
    fn copy(self) -> Result<Copy, TakeError> {
        let spool = BufWriter::new(tempfile::tempfile_in(&self.data_dir)?);
        let header = stored::Header {
            created_at: self.clock.now().as_unix(),
            server_version: env!("CARGO_PKG_VERSION").into(),
            trust_domain: self.trust_domain.to_string(),
            store_format: store::FORMAT,
        };
        let mut writer = Writer::new(spool, header)?;
        let mut revision = 0;
        self.store.scan(b"", |key, value| {
            revision = store::as_revision(key, value).unwrap_or(revision);
            let (key, value) = (key.into(), value.into());
            Ok::<_, TakeError>(writer.part(Part::Record(stored::Record { key, value }))?)
        })?;
        let has_keys = match &self.keys_path {
            Some(path) => {
                let file = std::fs::read(path).map_err(|source| TakeError::Keys {
                    path: path.clone(),
                    source,
                })?;
                writer.part(Part::Keys(stored::Keys { file }))?;
                true
            }
            None => false,
        };
        Ok(Copy {
            writer,
            revision,
            has_keys,
        })
    }
}

impl Copy {
    fn end(mut self, trail: stored::Trail) -> Result<Spool, TakeError> {
        self.writer.part(Part::Trail(trail))?;
        let (buffered, len) = self.writer.end(self.revision)?;
        let mut file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Spool { file, len })
    }
}
