//! Keeps the server's signing keys in one file that only its owner may read.
//!
//! The file is replaced as a whole: written beside, synced, renamed. A file that others may read is refused.

mod file;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use plugin_api::{KeyError, KeyKind, KeyManager, Signer, SoftwareKey};
use serde::Deserialize;

/// `[plugins.keys-disk]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; `keys.json` in the data directory if not set.
    pub keys_path: Option<PathBuf>,
}

/// Keys in a file.
pub struct DiskKeys {
    path: PathBuf,
    keys: Mutex<BTreeMap<String, Arc<SoftwareKey>>>,
}

/// How many keys the text of such a file holds.
///
/// # Errors
///
/// It is damaged; the error says what is wrong with it.
pub fn count(text: &[u8]) -> Result<usize, String> {
    file::parse(text).map(|keys| keys.len())
}

impl DiskKeys {
    /// Opens the file, which need not exist yet.
    ///
    /// # Errors
    ///
    /// It can't be read, is damaged, or others may read it.
    pub fn open(path: PathBuf) -> Result<Self, KeyError> {
        let keys = file::read(&path)?;
        Ok(Self {
            path,
            keys: Mutex::new(keys),
        })
    }

    /// Writes the file, then remembers what it holds.
    fn change(&self, alter: impl FnOnce(&mut BTreeMap<String, Arc<SoftwareKey>>)) -> Result<(), KeyError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = keys.clone();
        alter(&mut changed);
        file::write(&self.path, &changed)?;
        *keys = changed;
        Ok(())
    }
}

impl KeyManager for DiskKeys {
    fn generate(&self, id: &str, kind: KeyKind) -> Result<Arc<dyn Signer>, KeyError> {
        let key = Arc::new(SoftwareKey::generate(kind)?);
        let kept = Arc::clone(&key);
        self.change(|keys| drop(keys.insert(id.into(), kept)))?;
        Ok(key)
    }

    fn keys(&self) -> Result<BTreeMap<String, Arc<dyn Signer>>, KeyError> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys
            .iter()
            .map(|(id, key)| (id.clone(), Arc::clone(key) as Arc<dyn Signer>))
            .collect())
    }

    fn remove(&self, id: &str) -> Result<(), KeyError> {
        self.change(|keys| drop(keys.remove(id)))
    }
}

#[cfg(test)]
mod tests;
