//! A process's executable: its path, and the digest of its content.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use plugin_api::{Process, WorkloadAttestError};

/// Digests of files that were read before. A file that changes gets another change time.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<HashMap<FileId, String>>);

/// What tells one content of one file from another: device, inode, size, modification and change time.
type FileId = (u64, u64, u64, i64, i64, i64, i64);

/// Most digests that are remembered.
const MAX_REMEMBERED: usize = 4096;

impl Digests {
    /// Values of the `path` and `sha256` selectors.
    pub(super) fn of(&self, process: &Process, size_limit: i64) -> Result<Vec<String>, WorkloadAttestError> {
        let link = format!("/proc/{}/exe", process.pid);
        let failed = |source| WorkloadAttestError::Read {
            path: link.clone(),
            source,
        };
        let target = fs::read_link(&link).map_err(failed)?;
        let mut values = vec![format!("path:{}", target.display())];
        // Opening the link opens the very file that runs, whatever its path leads to by now.
        let file = File::open(&link).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let is_small =
            size_limit == 0 || u64::try_from(size_limit).is_ok_and(|limit| metadata.len() <= limit);
        if size_limit >= 0 && is_small {
            values.push(format!(
                "sha256:{}",
                self.digest(file, &metadata).map_err(failed)?
            ));
        }
        Ok(values)
    }

    fn digest(&self, file: File, metadata: &Metadata) -> io::Result<String> {
        let id = identify(metadata);
        if let Some(known) = self.lock().get(&id) {
            return Ok(known.clone());
        }
        let digest = read(file)?;
        let mut remembered = self.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(id, digest.clone());
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FileId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identify(metadata: &Metadata) -> FileId {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

fn read(mut file: File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        context.update(part);
    }
    Ok(context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
