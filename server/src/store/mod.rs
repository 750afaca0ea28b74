//! Where the server keeps what must outlive it: ordered keys, changed in atomic conditional batches. Engines are
//! one file each and hold opaque bytes; [`Store`] adds to every value a frame with a format version and a
//! checksum, because disk engines return flipped bits silently.

mod engine;
mod format;
pub mod frame;
mod redb;
mod sled;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;

pub use engine::{Batch, Condition, EngineError};
use engine::{Engine, Write};
pub use format::CURRENT as FORMAT;
pub use frame::FrameError;

/// `[store]` in a configuration.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which engine.
    pub engine: EngineKind,
}

/// Engines of this build.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// A single file, one fdatasync a commit.
    #[default]
    Redb,
    /// A folder, written as a log and synced with each commit.
    Sled,
}

impl EngineKind {
    /// All engines of this build.
    pub const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    /// As it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// Its file or folder, in the data directory.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Redb => "store.redb",
            Self::Sled => "store.sled",
        }
    }

    /// The file that it locks while a server runs, from the data directory.
    #[must_use]
    pub const fn lock_file(self) -> &'static str {
        match self {
            Self::Redb => "store.redb",
            Self::Sled => "store.sled/db",
        }
    }
}

/// Longest key in bytes.
pub const MAX_KEY: usize = 4 * 1024;
/// Longest value in bytes: longer than any message that holds one.
pub const MAX_VALUE: usize = 32 * 1024 * 1024;
/// Most writes in a batch.
pub const MAX_WRITES: usize = 1_000_000;

/// The store. Calls block for as long as the disk takes.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
    /// Of the last commit. Whoever commits holds it, so that no revision is given twice.
    revision: Mutex<Revision>,
}

/// The store can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition of the batch does not hold: somebody else was faster. Nothing was written.
    #[error("record `{}` is not what it was expected to be", .0.escape_ascii())]
    Conflict(Vec<u8>),
    /// A value is not what was written.
    #[error("record `{}` is damaged; restore the data directory from a backup", key.escape_ascii())]
    Corrupt {
        /// Which record.
        key: Vec<u8>,
        /// How it shows.
        source: FrameError,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(EngineError),
    /// The data directory belongs to another engine.
    #[error(
        "data directory `{}` holds a store of engine {}, and {} is configured; set engine = \"{}\" in [store], or \
         move the state over: `plastron-server backup` with the one, then `plastron-server restore` with the other",
        folder.display(), found.name(), configured.name(), found.name()
    )]
    OtherEngine {
        /// The data directory.
        folder: PathBuf,
        /// Whose files are there.
        found: EngineKind,
        /// Which one is configured.
        configured: EngineKind,
    },
    /// A newer server wrote this record.
    #[error("record `{}` has format {found}, which this server does not know; run the server that wrote it", key.escape_ascii())]
    RecordTooNew {
        /// Which record.
        key: Vec<u8>,
        /// Its format.
        found: u8,
    },
    /// What was to be written is longer than any record may be.
    #[error("{what} has {found}, and {limit} is the limit; make it smaller")]
    TooLarge {
        /// A key, a value or a batch, and in what it is counted.
        what: &'static str,
        /// How much it has.
        found: usize,
        /// How much it may have.
        limit: usize,
    },
    /// A newer server wrote this store.
    #[error("store has format {found}, and this server knows {known} at most; run {needed}")]
    TooNew {
        /// What was found.
        found: u32,
        /// The newest that this build reads.
        known: u32,
        /// Which server reads it.
        needed: String,
    },
}

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Condition(key) => Self::Conflict(key),
            error => Self::Engine(error),
        }
    }
}

/// How many batches were committed since the store was made.
pub type Revision = u64;

const REVISION: &[u8] = b"meta/revision";

impl Store {
    /// Opens the store in `folder`, making it where there is none.
    ///
    /// # Errors
    ///
    /// It can't be opened, is another engine's, is of a newer format, or is damaged.
    pub fn open(folder: &Path, config: Config) -> Result<Self, StoreError> {
        let mut others = EngineKind::ALL.into_iter().filter(|kind| *kind != config.engine);
        if let Some(found) = others.find(|kind| folder.join(kind.file_name()).exists()) {
            return Err(StoreError::OtherEngine {
                folder: folder.into(),
                found,
                configured: config.engine,
            });
        }
        let path = folder.join(config.engine.file_name());
        let engine: Box<dyn Engine> = match config.engine {
            EngineKind::Redb => Box::new(redb::Redb::open(&path)?),
            EngineKind::Sled => Box::new(sled::Sled::open(&path)?),
        };
        let store = Self {
            engine,
            revision: Mutex::default(),
        };
        *store.last_revision() = store.read_revision()?;
        format::check(&store)?;
        Ok(store)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// The engine failed, or the value is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let framed = self.engine.get(key)?;
        framed
            .map(|framed| open_frame(key, &framed).map(<[u8]>::to_vec))
            .transpose()
    }

    /// Visits every key that begins with `prefix`, in ascending order, until one visit fails.
    ///
    /// # Errors
    ///
    /// The engine failed, a value is damaged, or `visit` failed.
    pub fn scan<E: From<StoreError>>(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        let scanned = self.engine.scan(prefix, &mut |key, framed| {
            outcome = open_frame(key, framed)
                .map_err(E::from)
                .and_then(|value| visit(key, value));
            outcome.is_ok()
        });
        scanned.map_err(StoreError::from)?;
        outcome
    }

    /// Commits a batch: all of it or nothing, durable on return.
    ///
    /// # Errors
    ///
    /// A condition does not hold, something is too large, or the engine failed; nothing was written.
    pub fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        let mut last = self.last_revision();
        let revision = *last + 1;
        self.commit_as(revision, batch)?;
        *last = revision;
        Ok(revision)
    }

    /// Counts on from `revision`, if that is more than was reached: what was given before is not given again.
    ///
    /// # Errors
    ///
    /// The engine failed; nothing was written.
    pub fn skip_to(&self, revision: Revision) -> Result<(), StoreError> {
        let mut last = self.last_revision();
        if revision > *last {
            self.commit_as(revision, Batch::default())?;
            *last = revision;
        }
        Ok(())
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn revision(&self) -> Revision {
        *self.last_revision()
    }

    fn last_revision(&self) -> MutexGuard<'_, Revision> {
        self.revision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_revision(&self) -> Result<Revision, StoreError> {
        let bytes = self.get(REVISION)?;
        Ok(bytes.map_or(0, |bytes| revision_in(&bytes)))
    }

    fn commit_as(&self, revision: Revision, mut batch: Batch) -> Result<(), StoreError> {
        check_size(&batch)?;
        batch.put(REVISION.to_vec(), revision.to_be_bytes().to_vec());
        for write in &mut batch.writes {
            if let Write::Put(key, value) = write {
                *value = frame::close(key, value);
            }
        }
        Ok(self.engine.commit(&batch)?)
    }
}

/// Whether a key is the store's own: its format, its revision.
#[must_use]
pub fn is_own(key: &[u8]) -> bool {
    key.starts_with(b"meta/")
}

/// The revision in the store's own record under `key`, if that is the one.
#[must_use]
pub fn as_revision(key: &[u8], value: &[u8]) -> Option<Revision> {
    (key == REVISION).then(|| revision_in(value))
}

fn revision_in(value: &[u8]) -> Revision {
    value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn check_size(batch: &Batch) -> Result<(), StoreError> {
    let check = |what, found, limit| {
        if found > limit {
            Err(StoreError::TooLarge { what, found, limit })
        } else {
            Ok(())
        }
    };
    check("a batch, counted in writes,", batch.writes.len(), MAX_WRITES)?;
    for write in &batch.writes {
        let (key, value) = match write {
            Write::Delete(key) => (key.len(), 0),
            Write::Put(key, value) => (key.len(), value.len()),
        };
        check("a key, counted in bytes,", key, MAX_KEY)?;
        check("a value, counted in bytes,", value, MAX_VALUE)?;
    }
    Ok(())
}

fn open_frame<'a>(key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    frame::open(key, framed).map_err(|source| match source {
        FrameError::Version(found) if found > frame::VERSION => StoreError::RecordTooNew {
            key: key.into(),
            found,
        },
        source => StoreError::Corrupt {
            key: key.into(),
            source,
        },
    })
}

#[cfg(test)]
mod tests;
