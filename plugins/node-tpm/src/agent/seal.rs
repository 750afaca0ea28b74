//! Sealing to what the server accepted. What is known of the TPM stays known if that fails: it is no part of a proof.

use plugin_api::{ProverError, Sealed, SealedKey, Sealing, TpmDevice, TpmError};

use super::TpmProver;

impl TpmProver {
    pub(super) fn seal_key(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, ProverError> {
        self.apart(|tpm| tpm.seal(key, sealing))
    }

    pub(super) fn unseal_key(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, ProverError> {
        self.apart(|tpm| tpm.unseal(sealed))
    }

    fn apart<T>(
        &mut self,
        act: impl FnOnce(&mut dyn TpmDevice) -> Result<T, TpmError>,
    ) -> Result<T, ProverError> {
        let mut tpm = match self.tpm.take() {
            Some(tpm) => tpm,
            None => (self.open)()?,
        };
        let outcome = act(tpm.as_mut());
        self.tpm = Some(tpm);
        Ok(outcome?)
    }
}
