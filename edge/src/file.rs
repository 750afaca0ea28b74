//! Writing files whole, readable to whom they are meant for and nobody else.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Puts a file of these permissions in the place of what is at `path`. Written beside, synced, renamed: a crash leaves
/// the old file or the new one, and what was there before does not lend its permissions to a key.
///
/// # Errors
///
/// It can't be written.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn check(path: &Path, mode: u32) {
        replace(path, b"new", mode).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"new");
        let metadata = fs::symlink_metadata(path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
    }

    #[test]
    fn a_file_gets_its_own_permissions_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("svid.key");
        check(&path, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        check(&path, 0o600);
        check(&path, 0o644);
    }

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("svid.key"), folder.path().join("target"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        check(&link, 0o600);
        assert_eq!(fs::read(&target).unwrap(), b"old");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("svid.key");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new", 0o600).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
