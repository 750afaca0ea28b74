//! Objects in the TPM: made, found, kept, used, and always let go of again.

use std::ops::RangeInclusive;

use attest::Name;
use plugin_api::TpmError;
use tracing::warn;
use tss_esapi::{
    Context, Error,
    constants::CapabilityType,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{
        resource_handles::{Hierarchy as TpmHierarchy, Provision},
        session_handles::AuthSession,
    },
    structures::{CapabilityData, Public},
    traits::{Marshall, UnMarshall},
};

use crate::{
    device::Open,
    error::{Hierarchy, failed, failed_in},
    template,
};

/// A key that can be used now.
pub(crate) struct Loaded {
    pub(crate) handle: KeyHandle,
    /// Name of the public area that libtss2 encrypts to; `None` if it is of a kind that we have no use for.
    pub(crate) name: Option<Name>,
    transient: bool,
}

/// Handles asked for at once: as many as fit into the answer of any TPM.
const PAGE: u32 = 64;

impl Loaded {
    /// A key that takes a slot of the TPM until it is let go of.
    pub(crate) const fn transient(handle: KeyHandle) -> Self {
        Self {
            handle,
            name: None,
            transient: true,
        }
    }
}

impl Open {
    /// Makes a primary key of the endorsement hierarchy from a TPMT_PUBLIC, and tells its own.
    pub(crate) fn create_primary(&mut self, template: &[u8]) -> Result<(Loaded, Vec<u8>), TpmError> {
        self.create_primary_in(Hierarchy::Endorsement, template)
    }

    /// Makes the storage key of the owner hierarchy, under which keys are sealed.
    pub(crate) fn storage_key(&mut self) -> Result<Loaded, TpmError> {
        let made = self.create_primary_in(Hierarchy::Owner, &template::storage_key());
        made.map(|(key, _)| key)
    }

    fn create_primary_in(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
    ) -> Result<(Loaded, Vec<u8>), TpmError> {
        const COMMAND: &str = "TPM2_CreatePrimary";
        let template = Public::unmarshall(template).map_err(failed(COMMAND))?;
        let primary = match hierarchy {
            Hierarchy::Endorsement => TpmHierarchy::Endorsement,
            Hierarchy::Owner => TpmHierarchy::Owner,
        };
        let created = authorized(&mut self.context, |context| {
            context.create_primary(primary, template, None, None, None, None)
        })
        .map_err(failed_in(hierarchy, COMMAND))?;
        let key = Loaded {
            handle: created.key_handle,
            name: self.name_of(created.key_handle.into()),
            transient: true,
        };
        match created.out_public.marshall() {
            Ok(public) => Ok((key, public)),
            Err(error) => {
                self.release(key);
                Err(failed(COMMAND)(error))
            }
        }
    }

    /// The key at a persistent handle.
    pub(crate) fn open_persistent(&mut self, handle: u32) -> Result<Loaded, Error> {
        let handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle)?);
        let object = self.context.tr_from_tpm_public(handle)?;
        Ok(Loaded {
            handle: object.into(),
            name: self.name_of(object),
            transient: false,
        })
    }

    /// Makes a loaded key persistent, for which the owner's authorization is needed.
    pub(crate) fn persist(&mut self, key: &Loaded, handle: u32) -> Result<Loaded, TpmError> {
        let failed = failed_in(Hierarchy::Owner, "TPM2_EvictControl");
        let persistent = PersistentTpmHandle::new(handle).map_err(&failed)?;
        let object = authorized(&mut self.context, |context| {
            context.evict_control(Provision::Owner, key.handle.into(), persistent.into())
        })
        .map_err(&failed)?;
        Ok(Loaded {
            handle: object.into(),
            name: key.name.clone(),
            transient: false,
        })
    }

    /// Uses a key, and lets go of it whatever comes of that.
    pub(crate) fn using<T>(
        &mut self,
        key: Loaded,
        act: impl FnOnce(&mut Self, &Loaded) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let result = act(self, &key);
        self.release(key);
        result
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a key that was let go of must not be used"
    )]
    pub(crate) fn release(&mut self, key: Loaded) {
        if key.transient {
            self.flush(key.handle.into());
        } else {
            self.close(key.handle);
        }
    }

    /// Frees a slot of the TPM. That fails only with the connection, which frees them all.
    pub(crate) fn flush(&mut self, object: ObjectHandle) {
        if let Err(error) = self.context.flush_context(object) {
            warn!(%error, "TPM object was not flushed");
        }
    }

    /// Frees what libtss2 knows of a key that stays in the TPM.
    pub(crate) fn close(&mut self, key: KeyHandle) {
        if let Err(error) = self.context.tr_close(&mut key.into()) {
            warn!(%error, "TPM object was not closed");
        }
    }

    /// Which handles of a range are in use.
    pub(crate) fn handles(&mut self, range: &RangeInclusive<u32>) -> Result<Vec<u32>, TpmError> {
        let mut found = Vec::new();
        let mut next = *range.start();
        loop {
            let (page, more) = self
                .context
                .get_capability(CapabilityType::Handles, next, PAGE)
                .map_err(failed("TPM2_GetCapability"))?;
            let CapabilityData::Handles(page) = page else {
                return Ok(found);
            };
            let page: Vec<_> = page.into_inner().into_iter().map(u32::from).collect();
            found.extend(page.iter().filter(|handle| range.contains(handle)));
            match page.last() {
                Some(last) if more && (next..*range.end()).contains(last) => next = last + 1,
                _ => return Ok(found),
            }
        }
    }

    fn name_of(&mut self, object: ObjectHandle) -> Option<Name> {
        let name = self.context.tr_get_name(object).ok()?;
        Name::parse(name.value()).ok()
    }
}

/// Runs a command that the password of its hierarchy or key authorizes.
pub(crate) fn authorized<T>(context: &mut Context, command: impl FnOnce(&mut Context) -> T) -> T {
    context.execute_with_session(Some(AuthSession::Password), command)
}
