//! Reads a trail record by record, whether or not a server writes to it meanwhile.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use prost::Message;
use proto::plastron::store::v1::AuditRecord;

use super::frame::{self, Front, HEADER_LEN, Hash, Head};

/// A trail, read from its first record to its last. Each record is checked before it is given: its checksum, its
/// number, and that it continues the chain. It holds one record at a time.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    open: Option<Open>,
    head: Head,
    frame: Vec<u8>,
    read: u64,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
}

/// A record as it stands in the trail.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says.
    pub record: AuditRecord,
    /// SHA-256 over it and all records before.
    pub hash: Hash,
}

/// A trail can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A record is not what was written.
    #[error("record {sequence} in `{}` at byte {offset} {fault}", path.display())]
    Bad {
        /// Its number, as it should be.
        sequence: u64,
        /// Which file.
        path: PathBuf,
        /// Where in the file it begins.
        offset: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A file can't be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not begin where the one before ends.
    #[error("`{}` begins with record {found}, where record {expected} should follow; a file is missing or replaced", path.display())]
    Gap {
        /// Which file.
        path: PathBuf,
        /// The number in its header.
        found: u64,
        /// The number that follows.
        expected: u64,
    },
    /// A header is not what a server writes.
    #[error("`{}` does not begin as a file of an audit trail does (byte 0)", .0.display())]
    Header(PathBuf),
    /// A newer server wrote it.
    #[error("`{}` has format {found}, which this program does not know; use that of the server", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It is whole, and its hash is another.
    #[error("does not continue the hash chain: a record was altered, removed or put in")]
    Chain,
    /// Its bytes are others.
    #[error("is damaged: its checksum is wrong")]
    Checksum,
    /// The file ends in it.
    #[error("is incomplete: the file ends in it")]
    Incomplete,
    /// No record is that long.
    #[error("is damaged: no record has the length that it claims")]
    Length,
    /// It has another number.
    #[error("has another number")]
    Number,
    /// It is no record.
    #[error("can't be decoded")]
    Undecodable,
}

/// What the front of a file holds.
enum Next {
    Frame(Entry),
    /// The file ends before `Next` is whole, and so many bytes stand there.
    End(usize),
}

impl Reader {
    /// Opens the trail in `folder` at its first record. An empty folder is an empty trail.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let mut reader = Self {
            folder: folder.into(),
            open: None,
            head: Head::genesis(),
            frame: Vec::new(),
            read: 0,
        };
        if let Some(first) = reader.following()? {
            reader.enter(first)?;
        }
        Ok(reader)
    }

    /// Where the chain stands after the records that were read.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// How many bytes of records were read.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.read
    }

    /// The next record; `None` at the end, where a later call finds what was written since.
    ///
    /// # Errors
    ///
    /// The next record is not what was written, or can't be read. [`ReadError::is_torn`] where the trail ends in it.
    pub fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut following = None;
        loop {
            let next = self.read_frame()?;
            let rest = match next {
                Some(Next::Frame(entry)) => return Ok(Some(entry)),
                Some(Next::End(rest)) => rest,
                None => 0,
            };
            // Whoever begins a file writes no more to the one before: what it holds is known only now.
            match following.take() {
                Some(path) if rest == 0 => self.enter(path)?,
                Some(_) => return Err(self.bad(Fault::Incomplete)),
                None => match self.following()? {
                    Some(path) => following = Some(path),
                    None if rest == 0 => return Ok(None),
                    None => return Err(self.bad(Fault::Incomplete)),
                },
            }
        }
    }

    fn read_frame(&mut self) -> Result<Option<Next>, ReadError> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let filled = open.fill(&mut self.frame).map_err(|source| ReadError::File {
            path: open.path.clone(),
            source,
        });
        match filled? {
            Filled::Part(rest) => Ok(Some(Next::End(rest))),
            Filled::TooLong => Err(self.bad(Fault::Length)),
            Filled::Whole => self.take_frame().map(|entry| Some(Next::Frame(entry))),
        }
    }

    fn take_frame(&mut self) -> Result<Entry, ReadError> {
        let mut head = self.head;
        let Front::Frame { len } = frame::read(&self.frame, &mut head) else {
            let is_whole = frame::is_whole(&self.frame);
            return Err(self.bad(if is_whole { Fault::Chain } else { Fault::Checksum }));
        };
        let (record, _) = frame::record(&self.frame).unwrap_or_default();
        let record = AuditRecord::decode(record).map_err(|_| self.bad(Fault::Undecodable))?;
        if record.sequence != self.head.next {
            return Err(self.bad(Fault::Number));
        }
        self.head = head;
        self.read += len as u64;
        if let Some(open) = &mut self.open {
            open.offset += len as u64;
        }
        Ok(Entry {
            record,
            hash: head.hash,
        })
    }

    fn bad(&self, fault: Fault) -> ReadError {
        let open = self.open.as_ref();
        ReadError::Bad {
            sequence: self.head.next,
            path: open.map_or_else(|| self.folder.clone(), |open| open.path.clone()),
            offset: open.map_or(0, |open| open.offset),
            fault,
        }
    }

    /// The file after the one that is read, if it has its header already.
    fn following(&self) -> Result<Option<PathBuf>, ReadError> {
        let current = self.open.as_ref().map(|open| &open.path);
        let find = || {
            let mut next: Option<PathBuf> = None;
            for entry in fs::read_dir(&self.folder)? {
                let path = entry?.path();
                let is_journal = path.extension().is_some_and(|extension| extension == "journal");
                let is_after = current.is_none_or(|current| path > *current);
                if is_journal && is_after && next.as_ref().is_none_or(|next| path < *next) {
                    next = Some(path);
                }
            }
            let Some(path) = next else { return Ok(None) };
            let is_begun = fs::metadata(&path)?.len() >= HEADER_LEN as u64;
            Ok(is_begun.then_some(path))
        };
        find().map_err(|source| ReadError::File {
            path: self.folder.clone(),
            source,
        })
    }

    /// Goes on in the file at `path`. The first file says itself where the chain stands: what was before is not here.
    fn enter(&mut self, path: PathBuf) -> Result<(), ReadError> {
        let (file, header) = begin(&path).map_err(|source| ReadError::File {
            path: path.clone(),
            source,
        })?;
        if let Some(found) = frame::newer_version(&header) {
            return Err(ReadError::TooNew { path, found });
        }
        let Some(head) = frame::parse_header(&header) else {
            return Err(ReadError::Header(path));
        };
        if self.open.is_some() && head != self.head {
            let (found, expected) = (head.next, self.head.next);
            return Err(ReadError::Gap {
                path,
                found,
                expected,
            });
        }
        self.head = head;
        self.open = Some(Open {
            path,
            file,
            offset: HEADER_LEN as u64,
        });
        Ok(())
    }
}

impl ReadError {
    /// Whether the trail ends within a record: one that is being written, or that a power cut tore off. It was never
    /// acknowledged, and the server drops it when it starts.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        matches!(
            self,
            Self::Bad {
                fault: Fault::Incomplete,
                ..
            }
        )
    }
}

fn begin(path: &Path) -> io::Result<(BufReader<File>, Vec<u8>)> {
    let mut file = BufReader::new(File::open(path)?);
    let mut header = Vec::with_capacity(HEADER_LEN);
    (&mut file).take(HEADER_LEN as u64).read_to_end(&mut header)?;
    Ok((file, header))
}

enum Filled {
    /// So many bytes, and no more yet.
    Part(usize),
    TooLong,
    Whole,
}

impl Open {
    /// Reads the bytes of the next frame; where they are not all there, the next call begins anew.
    fn fill(&mut self, frame: &mut Vec<u8>) -> io::Result<Filled> {
        frame.clear();
        (&mut self.file).take(4).read_to_end(frame)?;
        let length = frame.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        if let Some(length) = length {
            let Some(rest) = frame::rest(length) else {
                return Ok(Filled::TooLong);
            };
            (&mut self.file).take(rest as u64).read_to_end(frame)?;
            if frame.len() == rest + 4 {
                return Ok(Filled::Whole);
            }
        }
        self.file.seek(SeekFrom::Start(self.offset))?;
        Ok(Filled::Part(frame.len()))
    }
}

#[cfg(test)]
mod tests;
