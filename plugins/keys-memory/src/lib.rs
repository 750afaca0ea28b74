//! Keeps the server's signing keys in memory: gone when the process ends, and with them the authorities.
//!
//! For tests, and for servers whose every SVID may end with them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use plugin_api::{KeyError, KeyKind, KeyManager, Signer, SoftwareKey};
use serde::Deserialize;

/// `[plugins.keys-memory]`: no settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Keys in memory.
#[derive(Default)]
pub struct MemoryKeys(Mutex<BTreeMap<String, Arc<dyn Signer>>>);

impl KeyManager for MemoryKeys {
    fn generate(&self, id: &str, kind: KeyKind) -> Result<Arc<dyn Signer>, KeyError> {
        let key: Arc<dyn Signer> = Arc::new(SoftwareKey::generate(kind)?);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.into(), Arc::clone(&key));
        Ok(key)
    }

    fn keys(&self) -> Result<BTreeMap<String, Arc<dyn Signer>>, KeyError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn remove(&self, id: &str) -> Result<(), KeyError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_keys_by_name() {
        let keys = MemoryKeys::default();
        let first = keys.generate("a", KeyKind::EcP256).unwrap();
        let second = keys.generate("a", KeyKind::EcP256).unwrap();
        assert_ne!(first.public_key(), second.public_key());
        assert_eq!(keys.keys().unwrap()["a"].public_key(), second.public_key());
        keys.remove("a").unwrap();
        assert!(keys.keys().unwrap().is_empty());
    }
}
