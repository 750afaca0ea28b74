//! The thread that writes the journal.

use std::{io, path::PathBuf};

use edge::Clock;
use tokio::sync::mpsc;
use tracing::error;

use super::{
    Append, AppendError,
    frame::{self, Head},
    segment::Segment,
};

/// Most appends that are written at once.
const GROUP: usize = 256;

pub(super) struct Writer {
    folder: PathBuf,
    segment: Segment,
    clock: Clock,
}

impl Writer {
    pub(super) fn new(folder: PathBuf, segment: Segment, clock: Clock) -> Self {
        Self {
            folder,
            segment,
            clock,
        }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            let outcome = self.write(&mut group).map_err(|error| describe(&error));
            for append in group.drain(..) {
                // Whoever asked may have gone; the records stand all the same.
                let _gone = append.done.send(outcome.clone());
            }
        }
    }

    fn write(&mut self, group: &mut [Append]) -> io::Result<Head> {
        let (frames, head) = self.encode(group);
        self.segment.append(&frames, head)?;
        if let Err(error) = self.segment.rotate(&self.folder) {
            // The file at hand grows on; the next append tries again.
            error!(%error, "Audit trail could not begin a new file");
        }
        Ok(head)
    }

    fn encode(&self, group: &mut [Append]) -> (Vec<u8>, Head) {
        let at = self.clock.now_nanos();
        let mut head = self.segment.head;
        let mut frames = Vec::new();
        for record in group.iter_mut().flat_map(|append| append.records.drain(..)) {
            let sequence = head.next;
            frame::write(&mut frames, &mut head, &record.encode(sequence, at));
        }
        (frames, head)
    }
}

fn describe(error: &io::Error) -> AppendError {
    error!(%error, "Audit trail could not be written");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::DiskFull,
        _ => AppendError::Io(error.to_string()),
    }
}
