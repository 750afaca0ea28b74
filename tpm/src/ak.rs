//! The attestation key: a primary of the endorsement hierarchy, made again from its template whenever it is gone.

use std::ops::RangeInclusive;

use attest::Name;
use plugin_api::TpmError;
use svid::TrustDomain;
use tracing::{info, warn};
use tss_esapi::handles::KeyHandle;

use crate::{
    device::Open,
    error::{Misuse, failed, is_gone, is_lost, misuse},
    keys::Loaded,
    template,
};

/// The attestation key of a trust domain.
#[derive(Clone)]
pub(crate) struct Ak {
    /// TPMT_PUBLIC.
    pub(crate) public: Vec<u8>,
    pub(crate) name: Name,
    /// TPMT_PUBLIC that it is made from.
    template: Vec<u8>,
    /// Where it is kept. Without a place it is made for each use.
    kept: Option<Kept>,
}

/// A key that stays open, so that its use takes no other command.
#[derive(Clone, Copy)]
struct Kept {
    /// The TPM's handle.
    persistent: u32,
    /// libtss2's. There is one for a key, however often it is opened: whoever closes it, closes it for all.
    key: KeyHandle,
}

/// Persistent handles that are looked at, from the configured one on.
const HANDLES: u32 = 8;

impl Open {
    /// The attestation key of `trust_domain`, made and kept where it is not.
    pub(crate) fn attestation_key(&mut self, trust_domain: &TrustDomain) -> Result<Ak, TpmError> {
        let Some(known) = self.aks.get(trust_domain).cloned() else {
            return self.make_ak(trust_domain);
        };
        if self.is_in_place(&known)? {
            return Ok(known);
        }
        let made = self.make_ak(trust_domain)?;
        if made.name != known.name {
            // A new seed makes the TPM another one, with other endorsement keys.
            self.eks.clear();
        }
        Ok(made)
    }

    /// The attestation key, without a look at whether it is in place.
    pub(crate) fn known_ak(&mut self, trust_domain: &TrustDomain) -> Result<Ak, TpmError> {
        match self.aks.get(trust_domain) {
            Some(ak) => Ok(ak.clone()),
            None => self.make_ak(trust_domain),
        }
    }

    /// Uses the attestation key where it is kept, or makes it for this once.
    pub(crate) fn using_ak<T>(
        &mut self,
        ak: &Ak,
        act: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        if let Some(kept) = ak.kept {
            return act(self, kept.key);
        }
        let (made, _) = self.create_primary(&ak.template)?;
        self.using(made, |open, made| {
            if made.name.as_ref() != Some(&ak.name) {
                return Err(misuse("TPM2_CreatePrimary", Misuse::AnotherTpm));
            }
            act(open, made.handle)
        })
    }

    fn is_in_place(&mut self, ak: &Ak) -> Result<bool, TpmError> {
        let Some(kept) = ak.kept else { return Ok(true) };
        match self.context.read_public(kept.key) {
            Ok((_, name, _)) => Ok(name.value() == ak.name.as_bytes()),
            Err(error) if is_gone(error) => Ok(false),
            Err(error) => Err(failed("TPM2_ReadPublic")(error)),
        }
    }

    /// Makes the attestation key from its template, wherever the last one was.
    pub(crate) fn make_ak(&mut self, trust_domain: &TrustDomain) -> Result<Ak, TpmError> {
        if let Some(kept) = self.aks.remove(trust_domain).and_then(|ak| ak.kept) {
            self.close(kept.key);
        }
        let template = template::attestation_key(trust_domain);
        let (made, public) = self.create_primary(&template)?;
        let ak = self.using(made, |open, made| {
            let name = made.name.clone();
            let name = name.ok_or_else(|| misuse("TPM2_CreatePrimary", Misuse::AnotherTpm))?;
            let kept = open.keep_ak(made, &name)?;
            Ok(Ak {
                public,
                name,
                template,
                kept,
            })
        })?;
        self.aks.insert(trust_domain.clone(), ak.clone());
        Ok(ak)
    }

    /// Finds the key among the persistent ones, or makes it persistent. Where that fails, it still works: with a
    /// key generation for each use.
    fn keep_ak(&mut self, made: &Loaded, name: &Name) -> Result<Option<Kept>, TpmError> {
        let range = self.ak_handles();
        let used = self.handles(&range)?;
        for persistent in &used {
            if let Some(kept) = self.find_ak(*persistent, name)? {
                return Ok(Some(kept));
            }
        }
        let free = range.into_iter().find(|handle| !used.contains(handle));
        match free
            .ok_or(TpmError::NoFreeSlot)
            .and_then(|handle| self.persist_ak(made, handle))
        {
            Ok(kept) => {
                info!(ak_name = %name, handle = format!("{:#010x}", kept.persistent), "Attestation key made persistent");
                Ok(Some(kept))
            }
            Err(error) => {
                warn!(ak_name = %name, %error, "Attestation key not made persistent; it is made for each use");
                lost_only(error)?;
                Ok(None)
            }
        }
    }

    /// Where attestation keys may be.
    pub(crate) fn ak_handles(&self) -> RangeInclusive<u32> {
        let first = self.config.attestation_key_handle;
        first..=first.saturating_add(HANDLES - 1)
    }

    /// Opens the key at a handle, if it is the one.
    fn find_ak(&mut self, persistent: u32, name: &Name) -> Result<Option<Kept>, TpmError> {
        let kept = |ak: &Ak| ak.kept.is_some_and(|kept| kept.persistent == persistent);
        if self.aks.values().any(kept) {
            // Open for another trust domain, and so another key.
            return Ok(None);
        }
        match self.open_persistent(persistent) {
            Ok(Loaded {
                handle: key,
                name: Some(found),
                ..
            }) if found == *name => Ok(Some(Kept { persistent, key })),
            Ok(other) => {
                self.release(other);
                Ok(None)
            }
            Err(error) => lost_only(failed("TPM2_ReadPublic")(error)).map(|()| None),
        }
    }

    fn persist_ak(&mut self, made: &Loaded, persistent: u32) -> Result<Kept, TpmError> {
        let key = self.persist(made, persistent)?.handle;
        Ok(Kept { persistent, key })
    }
}

/// Passes over errors of a single key; not over those of the connection.
fn lost_only(error: TpmError) -> Result<(), TpmError> {
    if is_lost(&error) { Err(error) } else { Ok(()) }
}
