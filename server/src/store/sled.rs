//! The engine sled: a log of segments in a folder.
//!
//! `flush()` of sled 0.34 hands pages to the disk (`sync_file_range`), and neither empties the drive's cache nor
//! makes sizes and names durable. So each commit syncs the log itself, and every blob that it spilled to, before it
//! is acknowledged.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use sled::{Batch as SledBatch, Db};

use super::engine::{Batch, Condition, Engine, EngineError, Write};

/// Pages held in memory. The server keeps its working state itself; this serves writes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Threads of a closed database may hold its lock for a moment: a second in all is waited.
const OPEN_TRIES: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// A folder of sled's.
pub(super) struct Sled {
    folder: PathBuf,
    /// Held for reading by who reads, because sled's own iterators see commits half-done.
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// `None` after a failed write: sled then refuses everything until it is opened anew.
    open: Option<Open>,
    /// Takes back a batch whose commit failed, and which may be on disk all the same.
    undo: Option<SledBatch>,
}

struct Open {
    db: Db,
    files: Files,
}

/// sled's files, to make durable what it wrote.
struct Files {
    log: File,
    blobs: PathBuf,
    /// Blobs are written once: those that were there at the last commit are durable.
    synced: HashSet<OsString>,
}

impl Sled {
    pub(super) fn open(folder: &Path) -> Result<Self, EngineError> {
        let open = open(folder).map_err(|error| failed(folder, error))?;
        Ok(Self {
            folder: folder.into(),
            state: RwLock::new(State {
                open: Some(open),
                undo: None,
            }),
        })
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>, EngineError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.open.is_some() {
            return Ok(state);
        }
        drop(state);
        drop(self.write()?);
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the folder anew where a write failed before, and takes back what that write may have left.
    fn write(&self) -> Result<RwLockWriteGuard<'_, State>, EngineError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.open.is_some() {
            return Ok(state);
        }
        let mut open = open(&self.folder).map_err(|error| failed(&self.folder, error))?;
        if let Some(undo) = state.undo.clone() {
            open.apply(undo).map_err(|error| failed(&self.folder, error))?;
        }
        state.undo = None;
        state.open = Some(open);
        Ok(state)
    }

    fn with<T>(&self, act: impl FnOnce(&Db) -> sled::Result<T>) -> Result<T, EngineError> {
        let state = self.read()?;
        let open = state.open.as_ref().ok_or_else(|| closed(&self.folder))?;
        act(&open.db).map_err(|error| failed(&self.folder, error))
    }
}

impl Engine for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), EngineError> {
        self.with(|db| {
            for record in db.scan_prefix(prefix) {
                let (key, value) = record?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.write()?;
        let open = state.open.as_mut().ok_or_else(|| closed(&self.folder))?;
        let prepared = open.prepare(batch).map_err(|error| failed(&self.folder, error))?;
        let (apply, undo) = prepared.map_err(EngineError::Condition)?;
        open.apply(apply).map_err(|error| {
            *state = State {
                open: None,
                undo: Some(undo),
            };
            failed(&self.folder, error)
        })
    }
}

impl Open {
    fn at(folder: &Path) -> sled::Result<Self> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()?;
        let files = Files::open(folder)?;
        Ok(Self { db, files })
    }

    /// What to apply, and what takes it back; or the key whose condition does not hold.
    fn prepare(&self, batch: &Batch) -> sled::Result<Result<(SledBatch, SledBatch), Vec<u8>>> {
        for condition in &batch.conditions {
            let (key, wanted) = match condition {
                Condition::Absent(key) => (key, false),
                Condition::Present(key) => (key, true),
            };
            if self.db.contains_key(key)? != wanted {
                return Ok(Err(key.clone()));
            }
        }
        let (mut apply, mut undo) = (SledBatch::default(), SledBatch::default());
        for write in &batch.writes {
            let key = match write {
                Write::Put(key, value) => {
                    apply.insert(key.as_slice(), value.as_slice());
                    key
                }
                Write::Delete(key) => {
                    apply.remove(key.as_slice());
                    key
                }
            };
            match self.db.get(key)? {
                Some(value) => undo.insert(key.as_slice(), value),
                None => undo.remove(key.as_slice()),
            }
        }
        Ok(Ok((apply, undo)))
    }

    /// Writes a batch; it is durable on return.
    fn apply(&mut self, batch: SledBatch) -> sled::Result<()> {
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        self.files.sync()?;
        Ok(())
    }
}

impl Files {
    /// Makes durable what opening wrote.
    fn open(folder: &Path) -> io::Result<Self> {
        let mut files = Self {
            log: File::open(folder.join("db"))?,
            blobs: folder.join("blobs"),
            synced: HashSet::new(),
        };
        files.sync()?;
        File::open(folder.join("conf"))?.sync_all()?;
        for folder in [Some(files.blobs.as_path()), Some(folder), folder.parent()] {
            let named = folder.filter(|folder| !folder.as_os_str().is_empty());
            File::open(named.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(files)
    }

    /// Makes durable what was written since the last time. Blobs come first, because the log refers to them.
    fn sync(&mut self) -> io::Result<()> {
        let mut present = HashSet::with_capacity(self.synced.len());
        let mut is_new = false;
        for entry in fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            if !self.synced.contains(&name) {
                is_new |= sync_if_there(&self.blobs.join(&name))?;
            }
            present.insert(name);
        }
        if is_new {
            File::open(&self.blobs)?.sync_all()?;
        }
        self.synced = present;
        self.log.sync_data()
    }
}

/// Syncs a file. sled may have removed it: then nothing refers to it any more.
fn sync_if_there(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => file.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(folder: &Path) -> sled::Result<Open> {
    let mut tries = 1;
    loop {
        match Open::at(folder) {
            Err(error) if is_locked(&error) && tries < OPEN_TRIES => thread::sleep(OPEN_PAUSE),
            outcome => return outcome,
        }
        tries += 1;
    }
}

/// sled has no kind of error of its own for a lock that somebody else holds.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

fn closed(folder: &Path) -> EngineError {
    failed(folder, io::Error::other("the database is closed").into())
}

fn failed(folder: &Path, error: sled::Error) -> EngineError {
    let path = folder.display().to_string();
    match error {
        error if is_locked(&error) => EngineError::InUse { path },
        sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            EngineError::DiskFull { path }
        }
        source => EngineError::Io {
            path,
            source: source.into(),
        },
    }
}

impl std::fmt::Debug for Sled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sled")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
