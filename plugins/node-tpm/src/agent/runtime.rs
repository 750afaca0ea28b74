//! The kernel's measurement list (IMA), as this host has it: read from where the server knows it, and never kept.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use attest::ima::MeasurementList;
use plugin_api::ProverError;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};
use tracing::{debug, warn};

use crate::wire::MAX_PART;

/// A measurement list that can be read.
pub(super) struct RuntimeList {
    path: PathBuf,
}

impl RuntimeList {
    /// Looks for the list; `None` if there is none that can be read: the server says whether it wants one.
    pub(super) fn find(path: &Path) -> Option<Self> {
        match fs::File::open(path) {
            Ok(_) => Some(Self { path: path.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                debug!(path = %path.display(), "No measurement list of the kernel");
                None
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "Measurement list of the kernel can't be read, and is not offered");
                None
            }
        }
    }

    /// That there is one.
    pub(super) fn to_wire() -> wire::LogDigest {
        wire::LogDigest {
            kind: wire::LogKind::Ima.into(),
            sha256: Bytes::new(),
            size: 0,
        }
    }

    /// What follows `from`, as far as it fits into a message. The kernel writes an entry before it extends the PCR: what
    /// is read after a quote has all that it covers.
    pub(super) fn read(&self, from: &wire::ListOffset) -> Result<wire::Log, ProverError> {
        let mut content = read(&self.path, from.bytes).map_err(|source| ProverError::Read {
            path: self.path.display().to_string(),
            source,
        })?;
        let more = content.len() > MAX_PART;
        let whole = MeasurementList::whole_entries(&content, MAX_PART);
        // What is no list goes as it is: the server says so.
        content.truncate(if whole == 0 { MAX_PART } else { whole });
        Ok(wire::Log {
            kind: wire::LogKind::Ima.into(),
            content: content.into(),
            offset: from.entries,
            more,
        })
    }
}

/// At most one byte more than fits into a message.
fn read(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let most = u64::try_from(MAX_PART).unwrap_or(u64::MAX);
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    Ok(content)
}
