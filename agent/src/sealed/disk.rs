//! The file on the disk: written whole, removed for good.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::file::MAX_LEN;

/// Where the file is. Calls wait for the disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    path: Arc<Path>,
}

impl Disk {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: path.into() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, if there is one; one byte more than it may have at most.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let most = u64::try_from(MAX_LEN).unwrap_or(u64::MAX);
        let mut content = Vec::new();
        file.take(most + 1).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Puts `content` in the place of what is there.
    pub(super) fn write(&self, content: &[u8]) -> io::Result<()> {
        edge::file::replace(&self.path, content, 0o600)
    }

    /// Removes the file, so that a power cut does not bring it back. Answers whether there was one.
    pub(super) fn remove(&self) -> io::Result<bool> {
        let was_there = match fs::remove_file(&self.path) {
            Ok(()) => true,
            // It may have been removed before without that being on the disk yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(was_there)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_for_its_owner_alone_and_goes_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("sealed.state"));
        assert_eq!(disk.read().unwrap(), None);
        assert!(!disk.remove().unwrap());
        disk.write(b"one").unwrap();
        disk.write(b"two").unwrap();
        assert_eq!(disk.read().unwrap(), Some(b"two".to_vec()));
        let mode = fs::metadata(disk.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(disk.remove().unwrap());
        assert_eq!(disk.read().unwrap(), None);
    }

    #[test]
    fn nothing_is_gone_until_its_folder_says_so_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("gone").join("sealed.state"));
        // There is no file, nor a folder that could be brought to the disk.
        let error = disk.remove().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_more_is_read_than_a_file_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("sealed.state"));
        File::create(disk.path())
            .unwrap()
            .set_len(2 * u64::try_from(MAX_LEN).unwrap())
            .unwrap();
        assert_eq!(disk.read().unwrap().unwrap().len(), MAX_LEN + 1);
    }
}
