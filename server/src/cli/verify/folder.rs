//! Folders of certificates of those who sign others, as operators keep them: with what else lies there.

use std::{
    io,
    path::{Path, PathBuf},
};

use attest::ek::{CaCertificate, Expiry, PlatformRoots};

use super::{CommandError, read};

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct CaFolder {
    pub(super) certificates: Vec<CaCertificate>,
    /// Files without a certificate.
    pub(super) skipped: Vec<PathBuf>,
}

/// What a file may be.
enum Content {
    /// Certificates in DER.
    Certificates(Vec<Vec<u8>>),
    /// Something else: a list of revoked ones, keys, a text.
    Other,
}

const NO_CERTIFICATE: &str = "it holds no certificate in PEM or DER";
/// Names of files that are of certificates, whatever they hold.
const EXTENSIONS: [&str; 5] = ["cer", "cert", "crt", "der", "pem"];
/// Blocks of PEM that are certificates (RFC 7468 §5).
const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

impl CaFolder {
    /// Reads all files of a folder.
    ///
    /// # Errors
    ///
    /// A file can't be read, or is of certificates by its name or content, and one of them is broken or no CA's.
    pub(super) fn read(folder: &Path) -> Result<Self, CommandError> {
        let Folder { ders, skipped } = Folder::read(folder)?;
        let certificates: Result<_, _> = ders.iter().map(|(path, der)| ca(path, der)).collect();
        Ok(Self {
            certificates: certificates?,
            skipped,
        })
    }
}

/// Platform certificates lead to these. All files are of certificates.
pub(in crate::cli) fn platform_roots(folder: &Path, expiry: Expiry) -> Result<PlatformRoots, CommandError> {
    let Folder { ders, skipped } = Folder::read(folder)?;
    if let Some(path) = skipped.first() {
        return Err(unusable(path, NO_CERTIFICATE));
    }
    let mut roots = PlatformRoots::new(expiry);
    for (path, der) in ders {
        roots.add(&der).map_err(|error| unusable(&path, error))?;
    }
    if roots.is_empty() {
        return Err(unusable(folder, "no root is in it"));
    }
    Ok(roots)
}

/// Certificates in DER, with the file that each is in.
#[derive(Default)]
struct Folder {
    ders: Vec<(PathBuf, Vec<u8>)>,
    skipped: Vec<PathBuf>,
}

impl Folder {
    fn read(folder: &Path) -> Result<Self, CommandError> {
        let mut found = Self::default();
        for path in files(folder)? {
            match content(&path, &read(&path)?)? {
                Content::Other => found.skipped.push(path),
                Content::Certificates(ders) => {
                    found.ders.extend(ders.into_iter().map(|der| (path.clone(), der)));
                }
            }
        }
        Ok(found)
    }
}

/// Parses one of a file's certificates.
pub(super) fn ca(path: &Path, der: &[u8]) -> Result<CaCertificate, CommandError> {
    CaCertificate::parse(der).map_err(|error| unusable(path, error))
}

/// The certificates of a PEM, in DER; nothing if it has none.
pub(super) fn pem_certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, pem::PemError> {
    let blocks = pem::parse_many(bytes)?.into_iter();
    let certificates = blocks.filter(|block| LABELS.contains(&block.tag()));
    Ok(certificates.map(pem::Pem::into_contents).collect())
}

fn content(path: &Path, bytes: &[u8]) -> Result<Content, CommandError> {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let ders = if bytes.first() == Some(&0x30) && extension != "crl" {
        vec![bytes.to_vec()]
    } else {
        pem_certificates(bytes).map_err(|error| unusable(path, error))?
    };
    // Another kind of PEM says what it is; bytes do not.
    let is_named = EXTENSIONS.contains(&extension.as_str()) && !bytes.starts_with(b"-----BEGIN ");
    match ders {
        ders if !ders.is_empty() => Ok(Content::Certificates(ders)),
        _ if is_named => Err(unusable(path, NO_CERTIFICATE)),
        _ => Ok(Content::Other),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |error: io::Error| unusable(folder, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn unusable(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CommandError {
    CommandError::Evidence {
        path: path.into(),
        source: io::Error::other(error),
    }
}
