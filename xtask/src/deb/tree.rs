//! The tree that a package is made from.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Files with the permissions that they are to have, whatever the umask is.
pub(super) struct Tree(TempDir);

impl Tree {
    pub(super) fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds a file, and says where it is.
    pub(super) fn add(&self, name: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
        let path = self.path().join(name);
        self.add_folders(Path::new(name))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Adds a copy of a file, and says where it is.
    pub(super) fn copy(&self, from: &Path, name: &str, mode: u32) -> Result<PathBuf> {
        let content = fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
        self.add(name, &content, mode)
    }

    fn add_folders(&self, name: &Path) -> Result<()> {
        let folders: Vec<_> = name
            .ancestors()
            .skip(1)
            .filter(|one| !one.as_os_str().is_empty())
            .collect();
        for folder in folders.into_iter().rev().map(|folder| self.path().join(folder)) {
            if !folder.exists() {
                fs::create_dir(&folder)?;
                fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    /// How many KiB it takes when it is installed.
    pub(super) fn size(&self) -> Result<u64> {
        let mut open = vec![self.path().to_owned()];
        let mut size = 0;
        while let Some(folder) = open.pop() {
            for file in fs::read_dir(folder)? {
                let file = file?;
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    open.push(file.path());
                } else {
                    size += metadata.len().div_ceil(1024);
                }
            }
        }
        Ok(size)
    }
}
