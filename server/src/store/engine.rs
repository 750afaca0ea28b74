//! What an engine must do. The suite in `tests.rs` holds each one to it.

use std::fmt;

/// Keeps opaque values under ordered keys. Calls block.
pub(super) trait Engine: fmt::Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Shows `visit` every key that begins with `prefix`, in ascending order, as of one moment, until it answers
    /// `false`.
    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), EngineError>;

    /// Commits all of a batch or nothing. On return it survives a power cut.
    fn commit(&self, batch: &Batch) -> Result<(), EngineError>;
}

/// Writes that happen together, if all conditions hold.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) conditions: Vec<Condition>,
    pub(super) writes: Vec<Write>,
}

/// What must hold for a batch to be committed.
#[derive(Clone, Debug)]
pub enum Condition {
    /// There is no such key.
    Absent(Vec<u8>),
    /// There is such a key.
    Present(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Delete(Vec<u8>),
    Put(Vec<u8>, Vec<u8>),
}

impl Batch {
    /// Commits only if `condition` holds.
    pub fn require(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put(key, value));
    }

    /// Removes a key; that it is not there is no error.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push(Write::Delete(key));
    }

    /// Whether it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// An engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A condition on this key does not hold.
    #[error("condition on `{}` does not hold", .0.escape_ascii())]
    Condition(Vec<u8>),
    /// The disk is full.
    #[error("the disk that holds `{path}` is full; free some space, nothing needs to be restarted")]
    DiskFull {
        /// Which file.
        path: String,
    },
    /// Another process has the store open.
    #[error("store `{path}` is in use; is another plastron-server running on this data directory?")]
    InUse {
        /// Which file.
        path: String,
    },
    /// The file can't be read or written, or is damaged.
    #[error("cannot access store `{path}`")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
