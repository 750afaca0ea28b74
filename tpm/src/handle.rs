//! The handle by which everybody uses the TPM that a thread owns.

use attest::{PcrSelection, PcrValues};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmEk, TpmError,
    TpmIdentity, TpmKey,
};
use svid::TrustDomain;
use zeroize::Zeroizing;

use crate::{
    Config,
    device::{Device, Open},
    ek::Ek,
    error,
    owner::{Operation, Owner},
};

/// Asks the thread that owns the TPM. Clones share the TPM, and each keeps the trust domain that it identified for.
#[derive(Clone, Debug)]
pub struct Handle {
    owner: Owner,
    trust_domain: Option<TrustDomain>,
}

impl Handle {
    pub(crate) fn start(config: Config) -> Result<Self, TpmError> {
        let (tcti, answer_within) = (config.tcti.clone(), config.answer_within);
        Ok(Self {
            owner: Owner::start(Device::closed(config), tcti, answer_within)?,
            trust_domain: None,
        })
    }

    /// Opens the TPM, anew where it is open: what was known of it is forgotten.
    ///
    /// # Errors
    ///
    /// The TPM is not there, may not be used, does not answer, or a password file can't be read.
    pub fn open(&self) -> Result<(), TpmError> {
        self.owner.ask(Operation::Open, Device::open)
    }

    /// The endorsement keys with their certificates. Makes nothing that stays, but what the configuration says.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    pub fn endorsement_keys(&self) -> Result<Vec<TpmEk>, TpmError> {
        self.ask(Operation::EndorsementKeys, |open| {
            Ok(open.endorsement_keys()?.iter().map(Ek::describe).collect())
        })
    }

    fn ask<T, F>(&self, operation: Operation, request: F) -> Result<T, TpmError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Open) -> Result<T, TpmError> + Send + 'static,
    {
        self.owner.ask(operation, move |device| device.run(request))
    }

    fn identified(&self, command: &'static str) -> Result<TrustDomain, TpmError> {
        self.trust_domain
            .clone()
            .ok_or_else(|| error::misuse(command, error::Misuse::NotIdentified))
    }
}

impl TpmDevice for Handle {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        self.trust_domain = Some(trust_domain.clone());
        let trust_domain = trust_domain.clone();
        self.ask(Operation::Identify, move |open| open.identify(&trust_domain))
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        let trust_domain = self.identified("TPM2_Quote")?;
        let (extra_data, selection) = (*extra_data, selection.clone());
        self.ask(Operation::Quote, move |open| {
            open.quote(&trust_domain, &extra_data, &selection)
        })
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let trust_domain = self.identified("TPM2_ActivateCredential")?;
        let activation = activation.clone();
        self.ask(Operation::Activate, move |open| {
            open.activate(&trust_domain, &activation)
        })
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let selection = selection.clone();
        self.ask(Operation::ReadPcrs, move |open| open.read_pcrs(&selection))
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        self.ask(Operation::CreateKey, Open::create_key)
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let (key, message) = (key.clone(), message.to_vec());
        self.ask(Operation::Sign, move |open| open.sign(&key, &message))
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        let trust_domain = self.identified("TPM2_Certify")?;
        let (key, extra_data) = (key.clone(), *extra_data);
        self.ask(Operation::Certify, move |open| {
            open.certify(&trust_domain, &key, &extra_data)
        })
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        let (key, sealing) = (key.clone(), sealing.clone());
        self.ask(Operation::Seal, move |open| open.seal(&key, &sealing))
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let sealed = sealed.clone();
        self.ask(Operation::Unseal, move |open| open.unseal(&sealed))
    }
}
