//! The journal: every decision the server takes, one record each, append-only and hash-chained from the first.
//!
//! It is the audit trail and the ledger of issued serial numbers in one: an SVID is answered only when its
//! record is durable. Records that arrive while the disk is busy are written together (group commit).
//!
//! ```text
//!   <data_dir>/audit/00000000000000000001.journal
//!     header   magic ‖ first sequence number ‖ hash of the last record before
//!     frame…   length ‖ CRC-32C ‖ record ‖ SHA-256(hash before ‖ record)
//! ```
//!
//! A frame that a power cut tore off the end was never acknowledged, and is dropped at the next start. Any
//! other damage stops the start: someone must look.

mod frame;
mod reader;
mod record;
mod scan;
mod segment;
mod thread;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use edge::{Clock, metrics::Histogram};
use tokio::sync::{mpsc, oneshot};

pub use frame::{Hash, Head};
pub use reader::{Entry, Fault, ReadError, Reader};
pub use record::Record;
pub use scan::scan;
pub use segment::end_of_chain;

/// Appends records. Clones share one journal; the last one dropped ends it.
#[derive(Clone, Debug)]
pub struct Journal {
    requests: mpsc::Sender<Append>,
    seconds: Histogram,
}

/// Records that are to be appended together, and whom to tell.
#[derive(Debug)]
struct Append {
    records: Vec<Record>,
    done: oneshot::Sender<Result<Head, AppendError>>,
}

/// Records could not be made durable; none of them counts.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full.
    #[error("the disk that holds the audit trail is full; free some space, nothing needs to be restarted")]
    DiskFull,
    /// The disk can't be written.
    #[error("cannot write the audit trail: {0}")]
    Io(String),
    /// The journal has ended.
    #[error("the audit trail is closed")]
    Stopped,
}

/// A journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A record is not what was written.
    #[error(
        "audit trail `{}` is damaged at byte {offset}, before its end; keep a copy of it, then restore the data directory from a backup",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the first bad frame begins.
        offset: u64,
    },
    /// A file can't be read or written.
    #[error("cannot access audit trail `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer server wrote it.
    #[error("audit trail `{}` has format {found}, which this server does not know; run the server that wrote it", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
}

/// Most appends that wait; further callers wait in turn.
const QUEUE: usize = 1024;

impl Journal {
    /// Opens the journal in `folder`, making it where there is none, and starts the thread that writes it. The
    /// thread ends, with everything written, when the last [`Journal`] is dropped.
    ///
    /// # Errors
    ///
    /// It can't be opened, or is damaged.
    pub fn open(folder: PathBuf, clock: Clock) -> Result<(Self, JoinHandle<()>), JournalError> {
        let segment = segment::open_last(&folder)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = thread::Writer::new(folder.clone(), segment, clock);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(queue));
        let thread = thread.map_err(|source| JournalError::File { path: folder, source })?;
        let seconds = Histogram::default();
        Ok((Self { requests, seconds }, thread))
    }

    /// Notes in `seconds` how long appends take.
    #[must_use]
    pub fn metered(self, seconds: Histogram) -> Self {
        Self { seconds, ..self }
    }

    /// Appends `records`; they are durable when this returns.
    ///
    /// # Errors
    ///
    /// They are not durable, and nothing that rests on them may happen.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), AppendError> {
        self.append_for_head(records).await.map(drop)
    }

    /// Appends `records` as [`Journal::append`] does; answers where the chain stands with them.
    ///
    /// # Errors
    ///
    /// They are not durable, and nothing that rests on them may happen.
    pub async fn append_for_head(&self, records: Vec<Record>) -> Result<Head, AppendError> {
        let _timer = self.seconds.timer();
        let (done, answer) = oneshot::channel();
        self.requests
            .send(Append { records, done })
            .await
            .map_err(|_| AppendError::Stopped)?;
        answer.await.unwrap_or(Err(AppendError::Stopped))
    }
}

/// Begins a journal in `folder` that continues the chain from `head`, with one record, made at `at` (nanoseconds since
/// the epoch). It is durable on return.
///
/// # Errors
///
/// It can't be written.
pub fn begin(folder: &Path, head: Head, record: Record, at: i64) -> Result<(), JournalError> {
    let begun = || {
        fs::create_dir_all(folder)?;
        let mut segment = segment::Segment::begin(folder, head)?;
        let (mut after, mut frames) = (head, Vec::new());
        frame::write(&mut frames, &mut after, &record.encode(head.next, at));
        segment.append(&frames, after)
    };
    begun().map_err(|source| JournalError::File {
        path: folder.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
