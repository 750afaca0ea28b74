//! Where the server keeps what must outlive it: ordered keys, changed in atomic conditional batches. Engines are
//! one file each and hold opaque bytes; [`Store`] adds to every value a frame with a format version and a
//! checksum, because disk engines return flipped bits silently.

mod engine;
mod format;
pub mod frame;
mod redb;

use std::path::Path;

use serde::Deserialize;

pub use engine::{Batch, Condition, EngineError};
use engine::{Engine, Write};
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
}

/// The store. Calls block for as long as the disk takes.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
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
    /// A newer server wrote this store.
    #[error("store has format {found}, and this server knows {known} at most; run the server that wrote it")]
    TooNew {
        /// What was found.
        found: u32,
        /// The newest that this build reads.
        known: u32,
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
    /// It can't be opened, is of a newer format, or is damaged.
    pub fn open(folder: &Path, config: Config) -> Result<Self, StoreError> {
        let engine = match config.engine {
            EngineKind::Redb => redb::Redb::open(&folder.join("store.redb"))?,
        };
        let store = Self {
            engine: Box::new(engine),
        };
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
    /// A condition does not hold, or the engine failed; nothing was written.
    pub fn commit(&self, mut batch: Batch) -> Result<Revision, StoreError> {
        let revision = self.revision()? + 1;
        batch.put(REVISION.to_vec(), revision.to_be_bytes().to_vec());
        for write in &mut batch.writes {
            if let Write::Put(key, value) = write {
                *value = frame::close(key, value);
            }
        }
        self.engine.commit(&batch)?;
        Ok(revision)
    }

    /// The revision of the last commit.
    ///
    /// # Errors
    ///
    /// The engine failed, or the record is damaged.
    pub fn revision(&self) -> Result<Revision, StoreError> {
        let bytes = self.get(REVISION)?.unwrap_or_default();
        Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

fn open_frame<'a>(key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    frame::open(key, framed).map_err(|source| StoreError::Corrupt {
        key: key.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
