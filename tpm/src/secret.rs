//! Passwords that are kept in files.

use std::{fs, io, path::PathBuf};

use zeroize::Zeroizing;

/// A file that holds a password. A line break at its end is no part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The file at `path`. It is read whenever the TPM is opened.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    pub(crate) fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut secret = Zeroizing::new(fs::read(&self.0)?);
        if secret.ends_with(b"\n") {
            secret.pop();
        }
        if secret.ends_with(b"\r") {
            secret.pop();
        }
        Ok(secret)
    }
}
