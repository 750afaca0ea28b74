//! The embedded engine: redb, one file, one fdatasync a commit.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::engine::{Batch, Condition, Engine, EngineError, Write};

/// Pages held in memory. The server keeps its working state itself; this serves writes.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// A redb file.
pub(super) struct Redb {
    path: PathBuf,
    /// `None` after a failed write: redb then refuses everything until the file is opened anew.
    database: RwLock<Option<Database>>,
}

impl Redb {
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let database = open(path)?;
        Ok(Self {
            path: path.into(),
            database: RwLock::new(Some(database)),
        })
    }

    /// Opens the file anew where a write failed before.
    fn reopen_if_failed(&self) -> Result<(), EngineError> {
        if self.read_guard().is_some() {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open(&self.path)?);
        }
        Ok(())
    }

    fn read_guard(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, EngineError> {
        self.reopen_if_failed()?;
        let guard = self.read_guard();
        let database = guard
            .as_ref()
            .ok_or_else(|| failed(&self.path, redb::Error::DatabaseClosed))?;
        act(database).map_err(|error| failed(&self.path, error))
    }

    fn write(&self, batch: &Batch) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                for condition in &batch.conditions {
                    let (key, wanted) = match condition {
                        Condition::Absent(key) => (key, false),
                        Condition::Present(key) => (key, true),
                    };
                    if table.get(key.as_slice())?.is_some() != wanted {
                        return Ok(Some(key.clone()));
                    }
                }
                for write in &batch.writes {
                    match write {
                        Write::Put(key, value) => table.insert(key.as_slice(), value.as_slice())?,
                        Write::Delete(key) => table.remove(key.as_slice())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(None)
        })
    }
}

impl Engine for Redb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(RECORDS)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), EngineError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(RECORDS)?;
            for record in table.range(prefix..)? {
                let (key, value) = record?;
                if !key.value().starts_with(prefix) || !visit(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), EngineError> {
        match self.write(batch) {
            Ok(None) => Ok(()),
            Ok(Some(key)) => Err(EngineError::Condition(key)),
            Err(error) => {
                self.database
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                Err(error)
            }
        }
    }
}

/// Opens the file, and makes its table where it is new, so that reading never has to.
fn open(path: &Path) -> Result<Database, EngineError> {
    let opened = || -> Result<Database, redb::Error> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
        // The file's own sync does not make its name durable.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(database)
    };
    opened().map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: redb::Error) -> EngineError {
    let path = path.display().to_string();
    match error {
        redb::Error::DatabaseAlreadyOpen => EngineError::InUse { path },
        redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            EngineError::DiskFull { path }
        }
        source => EngineError::Io {
            path,
            source: source.into(),
        },
    }
}

impl std::fmt::Debug for Redb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redb")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
