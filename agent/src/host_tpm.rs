//! The host's TPM, as the configuration says to reach it. Only here does the agent know the crate `tpm`.

use plugin_api::{TpmDevice, TpmError};
use plugin_catalog::{OpenTpm, TpmConfig};
use tpm::SecretFile;

/// Opens the TPM when it is first needed.
pub(crate) fn opener(config: &TpmConfig) -> OpenTpm {
    let settings = settings(config);
    Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> { Ok(Box::new(tpm::open(settings.clone())?)) })
}

/// How to reach it, and what to keep in it.
pub(crate) fn settings(config: &TpmConfig) -> tpm::Config {
    tpm::Config {
        tcti: config.device.clone(),
        endorsement_auth: config.endorsement_auth.as_ref().map(SecretFile::new),
        owner_auth: config.owner_auth.as_ref().map(SecretFile::new),
        attestation_key_handle: config.attestation_key_handle,
        persist_endorsement_key: config.persist_endorsement_key,
    }
}
