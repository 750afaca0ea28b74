//! The host's TPM, as the configuration says to reach it. Only here does the agent know the crate `tpm`.

use ::attest::{PcrSelection, PcrValues};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmError, TpmIdentity,
    TpmKey,
};
use plugin_catalog::{OpenTpm, TpmConfig};
use svid::TrustDomain;
use tokio::sync::watch;
use tpm::{Handle, SecretFile};
use zeroize::Zeroizing;

use crate::meters::Tpm;

/// A TPM that is timed.
struct Metered {
    device: Handle,
    seconds: Tpm,
    answers: watch::Sender<bool>,
}

/// Opens the TPM when it is first needed; notes in `seconds` what it takes, and shows in `answers` whether it answers. One
/// thread serves it however often it is opened: one that hangs does not hang another.
pub(crate) fn opener(config: &TpmConfig, seconds: Tpm, answers: watch::Sender<bool>) -> OpenTpm {
    let settings = settings(config);
    let mut served: Option<Handle> = None;
    Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> {
        let handle = match &served {
            Some(handle) => handle,
            None => served.insert(tpm::serve(settings.clone())?),
        };
        noted(&answers, handle.open())?;
        Ok(Box::new(Metered {
            device: handle.clone(),
            seconds: seconds.clone(),
            answers: answers.clone(),
        }))
    })
}

/// Shows by the outcome of a request whether the TPM answers.
fn noted<T>(answers: &watch::Sender<bool>, outcome: Result<T, TpmError>) -> Result<T, TpmError> {
    let does = !matches!(outcome, Err(TpmError::NoAnswer { .. }));
    answers.send_if_modified(|did| std::mem::replace(did, does) != does);
    outcome
}

/// How to reach it, and what to keep in it.
pub(crate) fn settings(config: &TpmConfig) -> tpm::Config {
    tpm::Config {
        tcti: config.device.clone(),
        endorsement_auth: config.endorsement_auth.as_ref().map(SecretFile::new),
        owner_auth: config.owner_auth.as_ref().map(SecretFile::new),
        attestation_key_handle: config.attestation_key_handle,
        persist_endorsement_key: config.persist_endorsement_key,
        answer_within: config.answer_within,
    }
}

impl TpmDevice for Metered {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        let _timer = self.seconds.identify.timer();
        noted(&self.answers, self.device.identify(trust_domain))
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        let _timer = self.seconds.quote.timer();
        noted(&self.answers, self.device.quote(extra_data, selection))
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let _timer = self.seconds.activate.timer();
        noted(&self.answers, self.device.activate(activation))
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let _timer = self.seconds.read_pcrs.timer();
        noted(&self.answers, self.device.read_pcrs(selection))
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        let _timer = self.seconds.create_key.timer();
        noted(&self.answers, self.device.create_key())
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let _timer = self.seconds.sign.timer();
        noted(&self.answers, self.device.sign(key, message))
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        let _timer = self.seconds.certify.timer();
        noted(&self.answers, self.device.certify(key, extra_data))
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        let _timer = self.seconds.seal.timer();
        noted(&self.answers, self.device.seal(key, sealing))
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let _timer = self.seconds.unseal.timer();
        noted(&self.answers, self.device.unseal(sealed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tpm_hangs_from_the_first_missing_answer_to_the_next_answer() {
        let (answers, shown) = watch::channel(true);
        let missing = || TpmError::NoAnswer {
            tcti: "a TPM".into(),
            operation: "quote",
            limit: Duration::from_secs(20),
        };
        let check = |outcome: Result<(), TpmError>, does: bool| {
            noted(&answers, outcome).ok();
            assert_eq!(*shown.borrow(), does);
        };
        check(Ok(()), true);
        check(Err(missing()), false);
        check(Err(missing()), false);
        check(Err(TpmError::NoMemory), true);
        check(Err(missing()), false);
        check(Ok(()), true);
    }
}
