//! The firmware's event log, as this host has it. Only its digest and what it replays to are kept in memory.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use attest::{
    HashAlg, PcrSelection, PcrValues,
    event_log::EventLog,
    wire::{Attest, Attested},
};
use plugin_api::ProverError;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};
use tracing::warn;

/// An event log that was read.
pub(super) struct MeasuredLog {
    path: PathBuf,
    sha256: Bytes,
    size: u64,
    /// What it replays to, in the banks that it has.
    replayed: PcrValues,
}

/// The digest over PCR values in a quote: that of the attestation key's scheme (Part 3 §18.4).
const PCR_HASH: HashAlg = HashAlg::Sha256;

impl MeasuredLog {
    /// Reads the log; `None` if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, ProverError> {
        let content = match read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                warn!(
                    path = %path.display(),
                    "No event log of the firmware; is securityfs mounted, and measured boot on?"
                );
                return Ok(None);
            }
            Err(source) => return Err(unreadable(path, source)),
        };
        Ok(Some(Self {
            path: path.into(),
            sha256: Bytes::copy_from_slice(HashAlg::Sha256.digest(&[&content]).as_bytes()),
            size: content.len().try_into().unwrap_or(u64::MAX),
            replayed: replay(&content),
        }))
    }

    pub(super) fn to_wire(&self) -> wire::LogDigest {
        wire::LogDigest {
            kind: wire::LogKind::EventLog.into(),
            sha256: self.sha256.clone(),
            size: self.size,
        }
    }

    /// Its content.
    pub(super) fn read(&self) -> Result<wire::Log, ProverError> {
        Ok(wire::Log {
            kind: wire::LogKind::EventLog.into(),
            content: read(&self.path)
                .map_err(|source| unreadable(&self.path, source))?
                .into(),
            offset: 0,
            more: false,
        })
    }

    /// Whether it replays to what a quote over `selection` signs.
    pub(super) fn explains(&self, statement: &[u8], selection: &PcrSelection) -> bool {
        let Ok(Attest {
            attested: Attested::Quote { pcr_digest, .. },
            ..
        }) = Attest::parse(statement)
        else {
            return false;
        };
        self.replayed.digest(selection, PCR_HASH).as_bytes() == &*pcr_digest
    }
}

/// A log that can't be read explains nothing: the server will say so, and why.
fn replay(content: &[u8]) -> PcrValues {
    let mut replayed = PcrValues::default();
    let Ok(log) = EventLog::parse(content) else {
        return replayed;
    };
    for values in log.banks().filter_map(|alg| log.replay(alg).ok()) {
        for (alg, index, value) in values.iter() {
            replayed.set(alg, index, *value);
        }
    }
    replayed
}

/// Kernel files have no length before they are read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from(EventLog::MAX_LEN).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() > EventLog::MAX_LEN {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "event log is longer than 4 MiB",
        ));
    }
    Ok(content)
}

fn unreadable(path: &Path, source: io::Error) -> ProverError {
    ProverError::Read {
        path: path.display().to_string(),
        source,
    }
}
