//! What the agent keeps on disk: the newest bundle, so that a restart needs no bootstrap; and, for hosts that
//! can't attest again, the SVID with its key. Hosts that can keep no key on disk but what [`crate::sealed`] encrypts.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use svid::{Bundle, BundleError, TrustDomain};
use zeroize::Zeroizing;

/// The agent's data directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// An SVID that outlives the process.
#[derive(Clone)]
pub struct KeptSvid {
    /// Leaf first, in DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
}

/// A file of the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bundle is not what was written.
    #[error("`{}` is damaged; remove it, and the agent bootstraps anew", path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: BundleError,
    },
    /// The file can't be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The SVID is not what was written.
    #[error("`{}` is damaged; remove it, and give the agent a new join token", path.display())]
    Svid {
        /// Which file.
        path: PathBuf,
    },
}

#[derive(Deserialize, Serialize)]
struct SvidFile {
    chain: Vec<String>,
    key: Zeroizing<String>,
}

impl KeptSvid {
    /// Parses what was kept; nothing if it is damaged.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let file: SvidFile = serde_json::from_slice(text).ok()?;
        let decode = |encoded: &str| BASE64_STANDARD.decode(encoded).ok();
        Some(Self {
            chain: file
                .chain
                .iter()
                .map(|encoded| decode(encoded))
                .collect::<Option<_>>()?,
            key: Zeroizing::new(decode(&file.key)?),
        })
    }
}

const BUNDLE: &str = "bundle.json";
const SVID: &str = "svid.json";
const SEALED: &str = "sealed.state";

impl DataDir {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    ///
    /// It can't be made.
    pub fn open(path: PathBuf) -> Result<Self, StateError> {
        let failed = |source| StateError::File {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        Ok(Self { path })
    }

    /// The newest bundle of `trust_domain` that was known.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<Option<Bundle>, StateError> {
        let path = self.path.join(BUNDLE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let parsed = Bundle::from_jwks(trust_domain.clone(), &text);
        parsed
            .map(Some)
            .map_err(|source| StateError::Bundle { path, source })
    }

    /// Keeps the newest bundle.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn keep_bundle(&self, bundle: &Bundle) -> Result<(), StateError> {
        self.write(BUNDLE, bundle.to_jwks().as_bytes())
    }

    /// The SVID that was kept.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn svid(&self) -> Result<Option<KeptSvid>, StateError> {
        let path = self.path.join(SVID);
        let Some(text) = read(&path)? else { return Ok(None) };
        let text = Zeroizing::new(text);
        KeptSvid::parse(&text).map(Some).ok_or(StateError::Svid { path })
    }

    /// Keeps an SVID with its key, readable to its owner alone.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn keep_svid(&self, svid: &KeptSvid) -> Result<(), StateError> {
        let chain = svid
            .chain
            .iter()
            .map(|certificate| BASE64_STANDARD.encode(certificate))
            .collect();
        let file = SvidFile {
            chain,
            key: Zeroizing::new(BASE64_STANDARD.encode(&svid.key)),
        };
        let text =
            Zeroizing::new(serde_json::to_vec(&file).map_err(|error| self.failed(SVID, error.into()))?);
        self.write(SVID, &text)
    }

    /// Removes the SVID that was kept; answers whether there was one.
    ///
    /// # Errors
    ///
    /// It can't be removed.
    pub fn forget_svid(&self) -> Result<bool, StateError> {
        match fs::remove_file(self.path.join(SVID)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(SVID, error)),
        }
    }

    /// Where state is that the TPM seals.
    #[must_use]
    pub fn sealed_state(&self) -> PathBuf {
        self.path.join(SEALED)
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        edge::file::replace(&self.path.join(name), text, 0o600).map_err(|source| self.failed(name, source))
    }

    fn failed(&self, name: &str, source: io::Error) -> StateError {
        StateError::File {
            path: self.path.join(name),
            source,
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::File {
            path: path.into(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::TempDir::new().unwrap();
        let data_dir = DataDir::open(folder.path().join("data")).unwrap();
        (folder, data_dir)
    }

    #[test]
    fn an_empty_folder_holds_nothing() {
        let (_folder, data_dir) = folder();
        assert!(data_dir.svid().unwrap().is_none());
        assert!(
            data_dir
                .bundle(&TrustDomain::parse("td").unwrap())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_is_kept_comes_back_and_only_the_owner_reads_it() {
        let (_folder, data_dir) = folder();
        let trust_domain = TrustDomain::parse("td").unwrap();
        let bundle = Bundle {
            sequence: 7,
            ..Bundle::empty(trust_domain.clone())
        };
        data_dir.keep_bundle(&bundle).unwrap();
        assert_eq!(data_dir.bundle(&trust_domain).unwrap(), Some(bundle));
        data_dir
            .keep_svid(&KeptSvid {
                chain: vec![vec![1], vec![2]],
                key: Zeroizing::new(vec![3]),
            })
            .unwrap();
        let kept = data_dir.svid().unwrap().unwrap();
        assert_eq!((kept.chain, kept.key.to_vec()), (vec![vec![1], vec![2]], vec![3]));
        let mode = fs::metadata(data_dir.path.join(SVID))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_is_named() {
        let (_folder, data_dir) = folder();
        fs::write(data_dir.path.join(SVID), "{").unwrap();
        fs::write(data_dir.path.join(BUNDLE), "{").unwrap();
        assert!(
            data_dir
                .svid()
                .err()
                .unwrap()
                .to_string()
                .contains("svid.json` is damaged")
        );
        let refused = data_dir.bundle(&TrustDomain::parse("td").unwrap()).unwrap_err();
        assert!(refused.to_string().contains("bundle.json` is damaged"));
    }

    #[test]
    fn a_kept_svid_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path().join("data")).unwrap();
        assert!(!data.forget_svid().unwrap());
        data.keep_svid(&KeptSvid {
            chain: vec![vec![1]],
            key: Zeroizing::new(vec![2]),
        })
        .unwrap();
        assert!(data.forget_svid().unwrap());
        assert!(data.svid().unwrap().is_none());
    }
}
