//! The endorsement keys: found at persistent handles, or made from the templates that their certificates imply.

use std::ops::RangeInclusive;

use attest::Name;
use plugin_api::{TpmEk, TpmError};
use tracing::{info, warn};

use crate::{
    candidate::Candidate,
    device::Open,
    error::{failed, is_gone, is_lost},
    keys::Loaded,
    nv,
    template::{self, DEFAULT_EK_TEMPLATES, EK_TEMPLATES, EkTemplate},
};

/// An endorsement key, and how to load it again.
#[derive(Clone)]
pub(crate) struct Ek {
    pub(crate) origin: Origin,
    pub(crate) name: Name,
    /// TPMT_PUBLIC.
    public: Vec<u8>,
    persistent: Option<u32>,
}

/// What the maker of the TPM says of an endorsement key.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) template: &'static EkTemplate,
    /// TPMT_PUBLIC that it is made from.
    source: Vec<u8>,
    certificate: Option<Vec<u8>>,
    /// Intermediate certificates, of this key or of another.
    chain: Vec<Vec<u8>>,
}

/// NV indices of everything about endorsement keys.
const NV_INDICES: RangeInclusive<u32> = 0x01C0_0000..=0x01C0_01FF;
/// The first NV index of the certificate chain.
const CHAIN: u32 = 0x01C0_0100;

impl Open {
    /// The endorsement keys, the strongest first: those with a certificate, and those that are persistent. Without
    /// any certificate, that of the default template is among them.
    pub(crate) fn endorsement_keys(&mut self) -> Result<&[Ek], TpmError> {
        if self.eks.is_empty() {
            self.eks = self.find_eks()?;
        }
        Ok(&self.eks)
    }

    /// Loads an endorsement key. It may be another one by now: its Name is still to be compared.
    pub(crate) fn load_ek(&mut self, ek: &Ek) -> Result<Loaded, TpmError> {
        if let Some(handle) = ek.persistent {
            match self.open_persistent(handle) {
                Ok(key) => return Ok(key),
                Err(error) if is_gone(error) => {}
                Err(error) => return Err(failed("TPM2_ReadPublic")(error)),
            }
        }
        let (key, _) = self.create_primary(&ek.origin.source)?;
        if key.name.as_ref() == Some(&ek.name) {
            self.keep_ek(&key, ek.origin.template)?;
        }
        Ok(key)
    }

    fn find_eks(&mut self) -> Result<Vec<Ek>, TpmError> {
        let defined = self.handles(&NV_INDICES)?;
        let chain = self.read_chain(&defined)?;
        let candidates = self.candidates()?;
        let mut found = Vec::new();
        for template in &EK_TEMPLATES {
            let origin = self.origin(template, &defined, &chain)?;
            let fits = |key: &&Candidate| key.fits(template, origin.certificate.as_deref());
            if let Some(candidate) = candidates.iter().find(fits) {
                found.push(Ek::at(candidate, origin));
            } else if origin.certificate.is_some() {
                found.extend(self.make_ek(origin)?);
            }
        }
        if !found.iter().any(Ek::is_expected) {
            self.add_default_ek(&mut found, &defined)?;
        }
        Ok(found)
    }

    fn add_default_ek(&mut self, found: &mut Vec<Ek>, defined: &[u32]) -> Result<(), TpmError> {
        for template in &DEFAULT_EK_TEMPLATES {
            let origin = self.origin(template, defined, &[])?;
            found.extend(self.make_ek(origin)?);
            if !found.is_empty() {
                return Ok(());
            }
        }
        Err(TpmError::NoEndorsementKey)
    }

    /// Makes an endorsement key; `None` if this TPM has no keys of the template.
    fn make_ek(&mut self, origin: Origin) -> Result<Option<Ek>, TpmError> {
        let (key, public) = match self.create_primary(&origin.source) {
            Err(error @ TpmError::Command { .. }) if !is_lost(&error) => {
                warn!(template = origin.template.name, %error, "Endorsement key could not be made");
                return Ok(None);
            }
            made => made?,
        };
        self.using(key, |open, key| {
            let Some(name) = key.name.clone() else {
                return Ok(None);
            };
            let persistent = open.keep_ek(key, origin.template)?;
            Ok(Some(Ek {
                origin,
                name,
                public,
                persistent,
            }))
        })
    }

    /// Makes a key persistent that took seconds to generate, if it is configured so and its usual handle is free.
    fn keep_ek(&mut self, key: &Loaded, template: &EkTemplate) -> Result<Option<u32>, TpmError> {
        let handle = template.handle;
        if !self.config.persist_endorsement_key || !template.is_slow() {
            return Ok(None);
        }
        if !self.handles(&(handle..=handle))?.is_empty() {
            return Ok(None);
        }
        match self.persist(key, handle) {
            Ok(kept) => {
                self.release(kept);
                let handle_hex = format!("{handle:#010x}");
                info!(
                    template = template.name,
                    handle = handle_hex,
                    "Endorsement key made persistent"
                );
                Ok(Some(handle))
            }
            Err(error) if is_lost(&error) => Err(error),
            Err(error) => {
                warn!(template = template.name, %error, "Endorsement key not made persistent; it takes seconds each time");
                Ok(None)
            }
        }
    }

    fn origin(
        &mut self,
        template: &'static EkTemplate,
        defined: &[u32],
        chain: &[Vec<u8>],
    ) -> Result<Origin, TpmError> {
        let certificate = self.read_nv(template.certificate, defined)?;
        Ok(Origin {
            template,
            source: self.source(template, defined)?,
            chain: certificate.as_ref().map(|_| chain.to_vec()).unwrap_or_default(),
            certificate,
        })
    }

    /// What the key is made from: the vendor's template and nonce, where there are such (EK Credential Profile
    /// §2.2.1.2).
    fn source(&mut self, template: &EkTemplate, defined: &[u32]) -> Result<Vec<u8>, TpmError> {
        let Some((nonce, replacement)) = template.nonce_and_template else {
            return Ok(template.public(&[]));
        };
        let nonce = self.read_nv(nonce, defined)?.unwrap_or_default();
        match self.read_nv(replacement, defined)? {
            Some(vendors) => template::with_nonce(&vendors, &nonce).map_err(failed("TPM2_CreatePrimary")),
            None => Ok(template.public(&nonce)),
        }
    }

    fn read_chain(&mut self, defined: &[u32]) -> Result<Vec<Vec<u8>>, TpmError> {
        let mut indices = Vec::new();
        for index in defined.iter().filter(|index| **index >= CHAIN) {
            indices.extend(self.read_nv(*index, defined)?);
        }
        Ok(nv::split_certificates(&indices))
    }
}

impl Ek {
    fn at(candidate: &Candidate, origin: Origin) -> Self {
        Self {
            origin,
            name: candidate.public.name(),
            public: candidate.bytes.clone(),
            persistent: Some(candidate.handle),
        }
    }

    /// Whether hosts are enrolled by such a key: by certificate, or by the hash of a key that any tool finds.
    fn is_expected(&self) -> bool {
        self.origin.certificate.is_some() || self.origin.template.is_listed()
    }

    /// As provers see it.
    pub(crate) fn describe(&self) -> TpmEk {
        TpmEk {
            public: self.public.clone(),
            certificate: self.origin.certificate.clone(),
            chain: self.origin.chain.clone(),
        }
    }
}
