//! The backup file: framed, checksummed, versioned; written and read as a stream. `backup.proto` says how.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;
use proto::plastron::backup::v1 as stored;
pub use stored::part::Part;

use crate::store::{MAX_KEY, MAX_VALUE};

const NAME: &[u8; 7] = b"PLBKUP\0";
/// The format that this build writes. There was none before.
const VERSION: u8 = 1;
/// Longest part in bytes: the longest record, and what protobuf adds.
const MAX_PART: usize = MAX_KEY + MAX_VALUE + 64;

/// A file is no whole backup that this server can read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not what was written.
    #[error("backup is damaged or cut short at byte {offset}; take another one")]
    Damaged {
        /// Where the first bad frame begins.
        offset: u64,
    },
    /// It can't be read or written.
    #[error("cannot read or write the backup")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no backup of plastron-server")]
    NoBackup,
    /// A part is longer than any reader takes.
    #[error("a part of {0} bytes is too long for a backup")]
    TooLong(usize),
    /// A newer server wrote it.
    #[error(
        "backup has format {found}, and this server knows {VERSION} at most; restore it with the server that wrote it"
    )]
    TooNew {
        /// Its format.
        found: u8,
    },
}

/// Writes a backup.
pub struct Writer<W> {
    to: W,
    written: Written,
}

/// What was written or read so far.
struct Written {
    bytes: u64,
    frames: u64,
    records: u64,
    hash: Context,
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn new(to: W, header: stored::Header) -> Result<Self, FileError> {
        let written = Written::default();
        let mut writer = Self { to, written };
        writer.put(&[NAME.as_slice(), &[VERSION]].concat())?;
        writer.part(Part::Header(header))?;
        Ok(writer)
    }

    /// Adds a part.
    ///
    /// # Errors
    ///
    /// It can't be written, or is too long.
    pub fn part(&mut self, part: Part) -> Result<(), FileError> {
        self.written.records += u64::from(matches!(part, Part::Record(_)));
        let body = stored::Part { part: Some(part) }.encode_to_vec();
        let len = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_PART)
            .ok_or(FileError::TooLong(body.len()))?;
        let checksum = checksum(self.written.frames, &body);
        self.put(&len.to_be_bytes())?;
        self.put(&checksum)?;
        self.put(&body)?;
        self.written.frames += 1;
        Ok(())
    }

    /// Ends a backup of the store at `revision`; answers what was written to, and how many bytes.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn end(mut self, revision: u64) -> Result<(W, u64), FileError> {
        let end = self.written.end(revision);
        self.part(Part::End(end))?;
        self.to.flush()?;
        Ok((self.to, self.written.bytes))
    }

    /// How many records were written.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.written.records
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.to.write_all(bytes)?;
        self.written.note(bytes);
        Ok(())
    }
}

/// Reads a backup. What it shows before the end may yet turn out to be of a file that is cut short.
pub struct Reader<R> {
    from: R,
    read: Written,
    /// Place of the last part in the order of parts.
    place: u8,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// It is no backup, or a newer server's.
    pub fn open(mut from: R) -> Result<(Self, stored::Header), FileError> {
        let mut magic = [0; NAME.len() + 1];
        from.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FileError::NoBackup,
            _ => FileError::Io(error),
        })?;
        match magic.strip_prefix(NAME) {
            Some([VERSION]) => {}
            Some([found, ..]) if *found > VERSION => return Err(FileError::TooNew { found: *found }),
            _ => return Err(FileError::NoBackup),
        }
        let mut read = Written::default();
        read.note(&magic);
        let mut reader = Self { from, read, place: 0 };
        match reader.next()? {
            Part::Header(header) => Ok((reader, header)),
            _ => Err(FileError::Damaged { offset: 8 }),
        }
    }

    /// The next part; after [`Part::End`] there is none, and the whole file was as it was written.
    ///
    /// # Errors
    ///
    /// The file is damaged, cut short, or has ended.
    #[expect(clippy::should_implement_trait, reason = "it ends with a part that says so")]
    pub fn next(&mut self) -> Result<Part, FileError> {
        let offset = self.read.bytes;
        let damaged = || FileError::Damaged { offset };
        let Frame { head, body } = self.frame()?.ok_or_else(damaged)?;
        let part = stored::Part::decode(body.as_slice())
            .ok()
            .and_then(|part| part.part);
        let part = part.ok_or_else(damaged)?;
        let place = place(&part);
        // One of each kind, in order; of records any number.
        let is_late = place < self.place || (place == self.place && place != RECORD);
        if is_late || self.is_early(place) || !is_sound(&part) {
            return Err(damaged());
        }
        if let Part::End(said) = &part {
            let end = self.read.end(said.revision);
            let is_whole = said.records == end.records && said.sha256 == end.sha256;
            if !is_whole || self.from.read(&mut [0])? != 0 {
                return Err(damaged());
            }
        }
        self.place = place;
        self.read.note(&head);
        self.read.note(&body);
        self.read.frames += 1;
        self.read.records += u64::from(place == RECORD);
        Ok(part)
    }

    /// How many bytes were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read.bytes
    }

    /// Whether something that every backup has is missing before this part.
    fn is_early(&self, place: u8) -> bool {
        (place > HEADER && self.place < HEADER) || (place > TRAIL && self.place < TRAIL)
    }

    /// The next frame; none if it is not whole.
    fn frame(&mut self) -> Result<Option<Frame>, FileError> {
        let mut head = [0; 8];
        if self.fill(&mut head)?.is_none() {
            return Ok(None);
        }
        let [l0, l1, l2, l3, expected @ ..] = head;
        let len = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if len > MAX_PART {
            return Ok(None);
        }
        // What is reserved is what is there, whatever the length says.
        let mut body = Vec::new();
        let limit = u64::try_from(len).unwrap_or(u64::MAX);
        self.from.by_ref().take(limit).read_to_end(&mut body)?;
        let is_good = body.len() == len && checksum(self.read.frames, &body) == expected;
        Ok(is_good.then_some(Frame { head, body }))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<Option<()>, FileError> {
        match self.from.read_exact(bytes) {
            Ok(()) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Length and checksum, and what they are of.
struct Frame {
    head: [u8; 8],
    body: Vec<u8>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            bytes: 0,
            frames: 0,
            records: 0,
            hash: Context::new(&SHA256),
        }
    }
}

impl Written {
    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }

    fn end(&self, revision: u64) -> stored::End {
        stored::End {
            revision,
            records: self.records,
            sha256: self.hash.clone().finish().as_ref().into(),
        }
    }
}

const HEADER: u8 = 1;
const RECORD: u8 = 2;
const TRAIL: u8 = 4;

fn place(part: &Part) -> u8 {
    match part {
        Part::Header(_) => HEADER,
        Part::Record(_) => RECORD,
        Part::Keys(_) => 3,
        Part::Trail(_) => TRAIL,
        Part::End(_) => 5,
    }
}

/// Whether the audit trail can go on from where it is said to have stood.
fn is_sound(part: &Part) -> bool {
    match part {
        Part::Trail(trail) => trail.hash.len() == 32 && trail.next_sequence < u64::MAX / 4,
        _ => true,
    }
}

fn checksum(number: u64, body: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), body).to_be_bytes()
}
