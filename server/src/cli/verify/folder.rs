//! Folders of certificates of those who sign others.

use std::{
    io,
    path::{Path, PathBuf},
};

use attest::ek::{CaCertificate, EkRoots, Expiry, PlatformRoots};

use super::{CommandError, read};

/// Endorsement certificates lead to these.
pub(super) fn ek_roots(folder: &Path, expiry: Expiry) -> Result<EkRoots, CommandError> {
    let mut roots = EkRoots::new(expiry);
    for (path, der) in certificates(folder)? {
        let certificate = CaCertificate::parse(&der).map_err(|error| unusable(&path, error))?;
        if certificate.is_self_issued() {
            roots.add_root(certificate);
        } else {
            roots.add_intermediate(certificate);
        }
    }
    if roots.is_empty() {
        return Err(unusable(folder, "no root is in it"));
    }
    Ok(roots)
}

/// Platform certificates lead to these.
pub(in crate::cli) fn platform_roots(folder: &Path, expiry: Expiry) -> Result<PlatformRoots, CommandError> {
    let mut roots = PlatformRoots::new(expiry);
    for (path, der) in certificates(folder)? {
        roots.add(&der).map_err(|error| unusable(&path, error))?;
    }
    if roots.is_empty() {
        return Err(unusable(folder, "no root is in it"));
    }
    Ok(roots)
}

/// In DER, with the file that each is in.
fn certificates(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, CommandError> {
    let mut certificates = Vec::new();
    for path in files(folder)? {
        let bytes = read(&path)?;
        let ders = match pem::parse_many(&bytes) {
            Ok(pems) if !pems.is_empty() => pems.into_iter().map(pem::Pem::into_contents).collect(),
            _ => vec![bytes],
        };
        certificates.extend(ders.into_iter().map(|der| (path.clone(), der)));
    }
    Ok(certificates)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unusable(folder, error))? {
        let path = entry.map_err(|error| unusable(folder, error))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CommandError {
    CommandError::Evidence {
        path: path.into(),
        source: io::Error::other(why),
    }
}
