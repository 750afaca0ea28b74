//! The host's TPM, as the configuration says to reach it. Only here does the agent know the crate `tpm`.

use ::attest::{PcrSelection, PcrValues};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmError, TpmIdentity,
    TpmKey,
};
use plugin_catalog::{OpenTpm, TpmConfig};
use svid::TrustDomain;
use tpm::SecretFile;
use zeroize::Zeroizing;

use crate::meters::Tpm;

/// A TPM that is timed.
struct Metered {
    device: Box<dyn TpmDevice>,
    seconds: Tpm,
}

/// Opens the TPM when it is first needed; notes in `seconds` what it takes.
pub(crate) fn opener(config: &TpmConfig, seconds: Tpm) -> OpenTpm {
    let settings = settings(config);
    Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> {
        Ok(Box::new(Metered {
            device: Box::new(tpm::open(settings.clone())?),
            seconds: seconds.clone(),
        }))
    })
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

impl TpmDevice for Metered {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        let _timer = self.seconds.identify.timer();
        self.device.identify(trust_domain)
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        let _timer = self.seconds.quote.timer();
        self.device.quote(extra_data, selection)
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let _timer = self.seconds.activate.timer();
        self.device.activate(activation)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let _timer = self.seconds.read_pcrs.timer();
        self.device.read_pcrs(selection)
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        let _timer = self.seconds.create_key.timer();
        self.device.create_key()
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let _timer = self.seconds.sign.timer();
        self.device.sign(key, message)
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        let _timer = self.seconds.certify.timer();
        self.device.certify(key, extra_data)
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        let _timer = self.seconds.seal.timer();
        self.device.seal(key, sealing)
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let _timer = self.seconds.unseal.timer();
        self.device.unseal(sealed)
    }
}
