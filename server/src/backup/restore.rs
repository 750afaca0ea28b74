//! Making a data directory of a backup, while no server runs on it.
//!
//! ```text
//!   restore.unfinished   is there from the first change to the last; a server does not start beside it
//!   .restoring-…/        what is restored, until all of it is there
//!   before-restore-…/    what was there before, with --force
//! ```

use std::{
    fs::{self, File},
    io::{self, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use proto::plastron::backup::v1 as stored;
use svid::{Timestamp, TrustDomain};

use super::{FileError, Part, Reader, Renewal, Renewed, renew::FAR};
use crate::{
    journal::{self, Head, JournalError, Record},
    registry::CodecError,
    store::{self, Batch, EngineKind, Store, StoreError},
};

/// Where a restore goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The key file, if keys are kept in one.
    pub keys_path: Option<PathBuf>,
    /// Whose state it has to be.
    pub trust_domain: TrustDomain,
    /// The engine.
    pub store: store::Config,
    /// Whether what is there is moved aside.
    pub force: bool,
    /// Who restores, for the audit trail.
    pub actor: String,
    /// The time, in nanoseconds since the epoch.
    pub now: i64,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// When the backup was made.
    pub created_at: Timestamp,
    /// How long the file is in bytes.
    pub file_len: u64,
    /// Revision of the store that it holds.
    pub revision: u64,
    /// How many records were restored.
    pub records: u64,
    /// Whether keys were restored.
    pub has_keys: bool,
    /// Agents whose hosts have to attest anew.
    pub must_attest: u64,
    /// Join tokens that are void.
    pub void_tokens: u64,
    /// Where what was there before is now.
    pub moved_to: Option<PathBuf>,
}

/// A backup can't be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is no backup, damaged, or newer.
    #[error("cannot restore `{}`", path.display())]
    Backup {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// A file of the data directory can't be read or written.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The audit trail can't be begun.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is there already.
    #[error("`{}` is not empty; empty it, or have what is there moved aside by --force", .0.display())]
    NotEmpty(PathBuf),
    /// It is of another trust domain.
    #[error("the backup is of trust domain {found}, and {configured} is configured")]
    OtherTrustDomain {
        /// The backup's.
        found: String,
        /// The server's.
        configured: TrustDomain,
    },
    /// A record can't be understood.
    #[error(
        "record `{key}` of the backup can't be understood; restore it with the server that wrote it, version {version}"
    )]
    Record {
        /// Which one.
        key: String,
        /// Who wrote it.
        version: String,
        /// Why.
        source: CodecError,
    },
    /// A server runs.
    #[error("a server runs on `{}`; stop it first", .0.display())]
    Running(PathBuf),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A newer server wrote the store.
    #[error(
        "the backup is of a store of format {found}, and this server knows {} at most; run plastron-server {version} or newer",
        store::FORMAT
    )]
    TooNew {
        /// Its format.
        found: u32,
        /// Who wrote it.
        version: String,
    },
    /// A restore did not get to its end.
    #[error("a restore of `{}` was interrupted; run `plastron-server restore` again, with --force", .0.display())]
    Unfinished(PathBuf),
}

const UNFINISHED: &str = "restore.unfinished";
const STAGE: &str = ".restoring-";
const ASIDE: &str = "before-restore-";
/// Records that are committed together, and how many bytes of them.
const GROUP: usize = 1000;
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Refuses a data directory whose restore did not get to its end.
///
/// # Errors
///
/// [`RestoreError::Unfinished`].
pub fn check_unfinished(data_dir: &Path) -> Result<(), RestoreError> {
    if data_dir.join(UNFINISHED).exists() {
        return Err(RestoreError::Unfinished(data_dir.into()));
    }
    Ok(())
}

/// Restores the backup in `path`; `progress` is told how many bytes of how many were read.
///
/// # Errors
///
/// It can't be restored. What was there is as it was, unless the error came with the very last step; then a server
/// refuses to start until a restore succeeds.
pub fn restore(
    path: &Path,
    target: &Target,
    progress: impl FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    let (source, header) = Backup::open(path)?;
    check_header(&header, &target.trust_domain)?;
    let dir = &target.data_dir;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let _held = hold(dir)?;
    if !target.force {
        check_empty(target)?;
    }
    remove_stale(dir)?;
    let stage = tempfile::Builder::new().prefix(STAGE).tempdir_in(dir);
    let stage = stage.map_err(at(dir))?;
    let restored = source.copy(&header, target, stage.path(), progress)?;
    put_in_place(target, stage.path(), restored)
}

/// An open backup.
struct Backup<'a> {
    path: &'a Path,
    reader: Reader<BufReader<File>>,
    len: u64,
}

impl<'a> Backup<'a> {
    fn open(path: &'a Path) -> Result<(Self, stored::Header), RestoreError> {
        let file = File::open(path).map_err(at(path))?;
        let len = file.metadata().map_err(at(path))?.len();
        let opened = Reader::open(BufReader::new(file));
        let (reader, header) = opened.map_err(|source| unreadable(path, source))?;
        Ok((Self { path, reader, len }, header))
    }

    /// Makes store, key file and audit trail in `folder`.
    fn copy(
        mut self,
        header: &stored::Header,
        target: &Target,
        folder: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Restored, RestoreError> {
        let store = Store::open(folder, target.store)?;
        let mut stage = Stage::new(&store, folder, header, target);
        let mut is_over = false;
        while !is_over {
            let part = self.reader.next();
            let part = part.map_err(|source| unreadable(self.path, source))?;
            is_over = matches!(part, Part::End(_));
            stage.add(part)?;
            progress(self.reader.bytes(), self.len);
        }
        stage.finish(self.len)
    }
}

/// What is restored, before it is in its place.
struct Stage<'a> {
    folder: &'a Path,
    header: &'a stored::Header,
    target: &'a Target,
    group: Group<'a>,
    renewal: Renewal,
    head: Head,
    revision: u64,
    records: u64,
    has_keys: bool,
}

impl<'a> Stage<'a> {
    fn new(store: &'a Store, folder: &'a Path, header: &'a stored::Header, target: &'a Target) -> Self {
        Self {
            folder,
            header,
            target,
            group: Group::new(store),
            renewal: Renewal::new(target.trust_domain.clone()),
            head: Head::default(),
            revision: 0,
            records: 0,
            has_keys: false,
        }
    }

    fn add(&mut self, part: Part) -> Result<(), RestoreError> {
        match part {
            Part::Header(_) => {}
            Part::Record(record) => self.record(record)?,
            Part::Keys(keys) => {
                self.has_keys = true;
                write_private(&self.folder.join(KEYS), &keys.file)?;
            }
            Part::Trail(trail) => {
                self.head.next = trail.next_sequence;
                // The reader has seen that it is a hash.
                self.head.hash = trail.hash.try_into().unwrap_or_default();
            }
            Part::End(end) => self.revision = end.revision,
        }
        Ok(())
    }

    fn record(&mut self, record: stored::Record) -> Result<(), RestoreError> {
        let renewed = self.renewal.record(&record.key, record.value);
        let renewed = renewed.map_err(|source| RestoreError::Record {
            key: record.key.escape_ascii().to_string(),
            version: self.header.server_version.escape_debug().to_string(),
            source,
        })?;
        if let Renewed::Kept(value) = renewed {
            self.records += 1;
            self.group.put(record.key, value)?;
        }
        Ok(())
    }

    fn finish(mut self, file_len: u64) -> Result<Restored, RestoreError> {
        self.group.commit()?;
        self.group.store.skip_to(self.revision.saturating_add(FAR))?;
        let restored = Restored {
            created_at: Timestamp::from_unix(self.header.created_at),
            file_len,
            revision: self.revision,
            records: self.records,
            has_keys: self.has_keys,
            must_attest: self.renewal.must_attest,
            void_tokens: self.renewal.void_tokens,
            moved_to: None,
        };
        let record = record(&restored, self.head, &self.target.actor);
        let head = Head {
            next: self.head.next.saturating_add(FAR),
            ..self.head
        };
        journal::begin(&self.folder.join(AUDIT), head, record, self.target.now)?;
        Ok(restored)
    }
}

const KEYS: &str = "keys.json";
const AUDIT: &str = "audit";

/// Records on their way into a store.
struct Group<'a> {
    store: &'a Store,
    batch: Batch,
    records: usize,
    bytes: usize,
}

impl<'a> Group<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            batch: Batch::default(),
            records: 0,
            bytes: 0,
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.records += 1;
        self.bytes += key.len() + value.len();
        self.batch.put(key, value);
        if self.records >= GROUP || self.bytes >= GROUP_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        (self.records, self.bytes) = (0, 0);
        if batch.is_empty() {
            return Ok(());
        }
        self.store.commit(batch).map(drop)
    }
}

fn record(restored: &Restored, head: Head, actor: &str) -> Record {
    Record::new("backup_restored", &actor)
        .with("backup_created_at", &restored.created_at)
        .with("revision", &restored.revision)
        .with("records", &restored.records)
        .with("has_keys", &restored.has_keys)
        .with("must_attest", &restored.must_attest)
        .with("void_tokens", &restored.void_tokens)
        // The numbers from here to this record's were perhaps given after the backup, and are not given again.
        .with("after_sequence", &head.next.saturating_sub(1))
}

fn check_header(header: &stored::Header, configured: &TrustDomain) -> Result<(), RestoreError> {
    let version = header.server_version.escape_debug().to_string();
    if header.store_format > store::FORMAT {
        let found = header.store_format;
        return Err(RestoreError::TooNew { found, version });
    }
    if header.trust_domain != configured.to_string() {
        return Err(RestoreError::OtherTrustDomain {
            found: header.trust_domain.escape_debug().to_string(),
            configured: configured.clone(),
        });
    }
    Ok(())
}

/// Holds what a server would lock, so that none runs on what is moved.
fn hold(dir: &Path) -> Result<Vec<File>, RestoreError> {
    let mut held = Vec::new();
    for engine in EngineKind::ALL {
        let path = dir.join(engine.lock_file());
        match File::open(&path) {
            Ok(file) if file.try_lock().is_ok() => held.push(file),
            Ok(_) => return Err(RestoreError::Running(dir.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RestoreError::Io { path, source }),
        }
    }
    Ok(held)
}

fn check_empty(target: &Target) -> Result<(), RestoreError> {
    check_unfinished(&target.data_dir)?;
    if !present(&target.data_dir)?.is_empty() {
        return Err(RestoreError::NotEmpty(target.data_dir.clone()));
    }
    match &target.keys_path {
        Some(path) if path.exists() => Err(RestoreError::NotEmpty(path.clone())),
        _ => Ok(()),
    }
}

/// What a killed restore staged: it holds signing keys.
fn remove_stale(dir: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// What is in the data directory, and is neither a file system's nor a restore's own.
fn present(dir: &Path) -> Result<Vec<PathBuf>, RestoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_own = name.starts_with(ASIDE) || name.starts_with(STAGE) || name == UNFINISHED;
        if !is_own && name != "lost+found" {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The last step: what is there moves aside, what is staged into its place.
fn put_in_place(target: &Target, stage: &Path, mut restored: Restored) -> Result<Restored, RestoreError> {
    let dir = &target.data_dir;
    let marker = dir.join(UNFINISHED);
    write_private(&marker, b"")?;
    sync(dir)?;
    restored.moved_to = move_aside(target)?;
    own_as(stage, dir)?;
    for name in [AUDIT, target.store.engine.file_name()] {
        let (from, to) = (stage.join(name), dir.join(name));
        fs::rename(&from, &to).map_err(at(&to))?;
    }
    if let Some(keys_path) = target.keys_path.as_ref().filter(|_| restored.has_keys) {
        // It may be of another file system.
        let keys = fs::read(stage.join(KEYS)).map_err(at(stage))?;
        write_private(keys_path, &keys)?;
        own_as(keys_path, dir)?;
    }
    sync(dir)?;
    fs::remove_file(&marker).map_err(at(&marker))?;
    sync(dir)?;
    Ok(restored)
}

fn move_aside(target: &Target) -> Result<Option<PathBuf>, RestoreError> {
    let dir = &target.data_dir;
    let name = format!("{ASIDE}{}", target.now);
    if let Some(keys_path) = target
        .keys_path
        .as_ref()
        .filter(|path| path.exists() && !path.starts_with(dir))
    {
        let mut aside = keys_path.clone().into_os_string();
        aside.push(format!(".{name}"));
        fs::rename(keys_path, aside).map_err(at(keys_path))?;
    }
    let present = present(dir)?;
    if present.is_empty() {
        return Ok(None);
    }
    let aside = dir.join(name);
    fs::create_dir(&aside).map_err(at(&aside))?;
    for path in present {
        let to = aside.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).map_err(at(&path))?;
    }
    own_as(&aside, dir)?;
    Ok(Some(aside))
}

/// Gives everything to the owner of the data directory: whoever restores may be root, and the server is not.
fn own_as(path: &Path, dir: &Path) -> Result<(), RestoreError> {
    let owner = fs::metadata(dir).map_err(at(dir))?;
    let own = fs::symlink_metadata(path).map_err(at(path))?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(at(path))?;
    }
    if own.is_dir() {
        for entry in fs::read_dir(path).map_err(at(path))? {
            own_as(&entry.map_err(at(path))?.path(), dir)?;
        }
    }
    Ok(())
}

/// Writes a file that its owner alone may read, durably.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), RestoreError> {
    let write = || {
        let folder = path.parent().unwrap_or(path);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut file, bytes)?;
        let private = fs::Permissions::from_mode(0o600);
        file.as_file().set_permissions(private)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at(path))
}

fn sync(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(at(dir))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Io {
        path: path.into(),
        source,
    }
}

fn unreadable(path: &Path, source: FileError) -> RestoreError {
    RestoreError::Backup {
        path: path.into(),
        source,
    }
}
