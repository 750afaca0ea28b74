//! Persistent keys that may be endorsement keys.

use std::ops::RangeInclusive;

use attest::wire::{Public, PublicKey};
use plugin_api::TpmError;
use tss_esapi::traits::Marshall;

use crate::{
    device::Open,
    error::{failed, is_lost},
    template::EkTemplate,
};

/// A persistent key among those of endorsement keys.
pub(crate) struct Candidate {
    pub(crate) handle: u32,
    /// TPMT_PUBLIC.
    pub(crate) bytes: Vec<u8>,
    pub(crate) public: Public,
    /// Whether it is a primary key of the endorsement hierarchy.
    is_endorsement: bool,
}

/// Persistent handles of endorsement keys (TCG TPM v2.0 Provisioning Guidance §7.8).
const HANDLES: RangeInclusive<u32> = 0x8101_0000..=0x8101_FFFF;

impl Open {
    /// All of them but our attestation keys.
    pub(crate) fn candidates(&mut self) -> Result<Vec<Candidate>, TpmError> {
        let mut candidates = Vec::new();
        let not_ours = self.ak_handles();
        for handle in self.handles(&HANDLES)? {
            if not_ours.contains(&handle) {
                continue;
            }
            candidates.extend(self.candidate(handle)?);
        }
        Ok(candidates)
    }

    /// `None` for keys of kinds that no endorsement key has.
    fn candidate(&mut self, handle: u32) -> Result<Option<Candidate>, TpmError> {
        let read = self.open_persistent(handle).and_then(|key| {
            let read = self.context.read_public(key.handle);
            self.release(key);
            read.and_then(|(public, _, qualified)| Ok((public.marshall()?, qualified)))
        });
        let (bytes, qualified) = match read {
            Ok(read) => read,
            Err(error) => {
                let error = failed("TPM2_ReadPublic")(error);
                return if is_lost(&error) { Err(error) } else { Ok(None) };
            }
        };
        let Ok(public) = Public::parse(&bytes) else {
            return Ok(None);
        };
        let expected = public.name().qualified_under_endorsement();
        Ok(Some(Candidate {
            handle,
            is_endorsement: expected.is_some_and(|expected| expected.as_bytes() == qualified.value()),
            bytes,
            public,
        }))
    }
}

impl Candidate {
    /// With a certificate, whether this is its key; without, whether it is made by the template.
    pub(crate) fn fits(&self, template: &EkTemplate, certificate: Option<&[u8]>) -> bool {
        self.is_endorsement
            && match certificate {
                Some(certificate) => self.is_in(certificate),
                None => self.bytes.starts_with(&template.head()),
            }
    }

    /// Certificates hold their key as it is, however odd their encoding is otherwise.
    fn is_in(&self, certificate: &[u8]) -> bool {
        let key = match &self.public.key {
            PublicKey::Ecc(key) => [&*key.x, &*key.y].concat(),
            PublicKey::Rsa(key) => key.modulus.to_vec(),
        };
        certificate.windows(key.len().max(1)).any(|window| window == key)
    }
}
