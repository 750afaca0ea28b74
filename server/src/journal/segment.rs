//! The files of a journal: where the last one ends, and starting a new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{
    JournalError,
    frame::{self, Front, HEADER_LEN, Head},
};

/// Size at which a new file is begun.
const ROTATE_AT: u64 = 16 * 1024 * 1024;

/// The file that is written.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    /// Everything before is durable.
    len: u64,
    /// A write failed: the file may be longer than `len`, or not on disk at all.
    failed: bool,
    pub(super) head: Head,
}

/// Opens the newest file of `folder`, dropping a frame that was torn off its end; begins one where there is none.
pub(super) fn open_last(folder: &Path) -> Result<Segment, JournalError> {
    let failed = |source| JournalError::File {
        path: folder.into(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    match newest(folder).map_err(failed)? {
        Some(path) => Segment::open(&path),
        None => Segment::begin(folder, Head::genesis()).map_err(failed),
    }
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    Ok(files(folder)?.into_iter().max())
}

/// The files of the journal, in no order; by name they are in that of time.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            files.push(path);
        }
    }
    Ok(files)
}

impl Segment {
    pub(super) fn begin(folder: &Path, head: Head) -> io::Result<Self> {
        let path = folder.join(format!("{:020}.journal", head.next));
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .read(true)
            .truncate(true)
            .open(&path)?;
        file.write_all(&frame::header(&head))?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self {
            file,
            path,
            len: HEADER_LEN as u64,
            failed: false,
            head,
        })
    }

    fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File {
            path: path.into(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .read(true)
            .open(path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let Some(mut head) = frame::parse_header(&bytes) else {
            check_version(path, &bytes)?;
            return Self::begin_again(path, bytes.len() < HEADER_LEN);
        };
        let end = walk(path, &bytes, &mut head)?;
        let mut segment = Self {
            file,
            path: path.into(),
            len: end as u64,
            failed: false,
            head,
        };
        if end < bytes.len() {
            warn!(path = %path.display(), bytes = bytes.len() - end, "Torn record dropped from audit trail");
            segment.failed = true;
            segment.recover().map_err(failed)?;
        }
        Ok(segment)
    }

    /// A file whose very header was torn off holds nothing; the one before says where the chain stands.
    fn begin_again(path: &Path, torn: bool) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File {
            path: path.into(),
            source,
        };
        if !torn {
            return Err(JournalError::Damaged {
                path: path.into(),
                offset: 0,
            });
        }
        fs::remove_file(path).map_err(failed)?;
        open_last(path.parent().unwrap_or(path))
    }

    /// Makes `frames`, which move the chain to `head`, durable.
    pub(super) fn append(&mut self, frames: &[u8], head: Head) -> io::Result<()> {
        if self.failed {
            self.recover()?;
        }
        self.failed = true;
        self.file.write_all(frames)?;
        self.file.sync_data()?;
        self.failed = false;
        self.len += frames.len() as u64;
        self.head = head;
        Ok(())
    }

    /// Begins a new file where this one is long enough.
    pub(super) fn rotate(&mut self, folder: &Path) -> io::Result<()> {
        if self.len >= ROTATE_AT {
            *self = Self::begin(folder, self.head)?;
        }
        Ok(())
    }

    /// Cuts off what a failed write may have left, on a fresh handle: after a failed sync the kernel may have
    /// forgotten pages of the old one.
    fn recover(&mut self) -> io::Result<()> {
        self.file = OpenOptions::new().write(true).read(true).open(&self.path)?;
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.sync_all()?;
        self.failed = false;
        Ok(())
    }
}

/// Where the chain of records ends in the bytes of a journal file; what follows was torn off. `path` is for the
/// error alone.
///
/// # Errors
///
/// [`JournalError::TooNew`] if a newer server wrote it; [`JournalError::Damaged`] if the header is not whole, or what is bad is followed by whole frames.
pub fn end_of_chain(path: &Path, bytes: &[u8]) -> Result<usize, JournalError> {
    check_version(path, bytes)?;
    match frame::parse_header(bytes) {
        Some(mut head) => walk(path, bytes, &mut head),
        None => Err(JournalError::Damaged {
            path: path.into(),
            offset: 0,
        }),
    }
}

fn check_version(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    match frame::newer_version(bytes) {
        Some(found) => Err(JournalError::TooNew {
            path: path.into(),
            found,
        }),
        None => Ok(()),
    }
}

/// Walks the chain; answers where it ends. What is bad and followed by whole frames is no torn end.
fn walk(path: &Path, bytes: &[u8], head: &mut Head) -> Result<usize, JournalError> {
    let mut offset = HEADER_LEN;
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        match frame::read(rest, head) {
            Front::Frame { len, .. } => offset += len,
            Front::End => return Ok(offset),
            Front::Bad { skip } => {
                let after = skip.and_then(|skip| rest.get(skip..)).unwrap_or_default();
                let followed = frame::is_whole(after);
                return if followed || frame::is_whole(rest) {
                    Err(JournalError::Damaged {
                        path: path.into(),
                        offset: offset as u64,
                    })
                } else {
                    Ok(offset)
                };
            }
        }
    }
}
