//! The thread that owns the TPM, and the handle by which all others use it.

use std::{sync::mpsc, thread};

use attest::{PcrSelection, PcrValues};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmEk, TpmError,
    TpmIdentity, TpmKey,
};
use svid::TrustDomain;
use zeroize::Zeroizing;

use crate::{
    device::{Device, Open},
    ek::Ek,
    error,
};

/// Requests that may wait; whoever comes later blocks before it is queued, instead of after.
const QUEUE: usize = 16;

type Request = Box<dyn FnOnce(&mut Device) + Send>;

/// Asks the thread that owns the TPM. Clones share the TPM, and each keeps the trust domain that it identified for.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::SyncSender<Request>,
    trust_domain: Option<TrustDomain>,
}

impl Handle {
    pub(crate) fn start(mut device: Device) -> Result<Self, TpmError> {
        let (requests, queue) = mpsc::sync_channel::<Request>(QUEUE);
        thread::Builder::new()
            .name("tpm".into())
            .spawn(move || queue.iter().for_each(|request| request(&mut device)))
            .map_err(|_| TpmError::Stopped)?;
        Ok(Self {
            requests,
            trust_domain: None,
        })
    }

    /// The endorsement keys with their certificates. Makes nothing that stays, but what the configuration says.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    pub fn endorsement_keys(&self) -> Result<Vec<TpmEk>, TpmError> {
        self.ask(|device| device.run(|open| Ok(open.endorsement_keys()?.iter().map(Ek::describe).collect())))
    }

    fn ask<T, F>(&self, request: F) -> Result<T, TpmError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    {
        let (reply, answer) = mpsc::sync_channel(1);
        let request: Request = Box::new(move |device| {
            // Whoever asked waits for the answer; if it is gone, nobody misses it.
            reply.send(request(device)).ok();
        });
        self.requests.send(request).map_err(|_| TpmError::Stopped)?;
        answer.recv().map_err(|_| TpmError::Stopped)?
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
        self.ask(move |device| device.run(|open| open.identify(&trust_domain)))
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        let trust_domain = self.identified("TPM2_Quote")?;
        let (extra_data, selection) = (*extra_data, selection.clone());
        self.ask(move |device| device.run(|open| open.quote(&trust_domain, &extra_data, &selection)))
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let trust_domain = self.identified("TPM2_ActivateCredential")?;
        let activation = activation.clone();
        self.ask(move |device| device.run(|open| open.activate(&trust_domain, &activation)))
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let selection = selection.clone();
        self.ask(move |device| device.run(|open| open.read_pcrs(&selection)))
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        self.ask(|device| device.run(Open::create_key))
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let (key, message) = (key.clone(), message.to_vec());
        self.ask(move |device| device.run(|open| open.sign(&key, &message)))
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        let trust_domain = self.identified("TPM2_Certify")?;
        let (key, extra_data) = (key.clone(), *extra_data);
        self.ask(move |device| device.run(|open| open.certify(&trust_domain, &key, &extra_data)))
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        let (key, sealing) = (key.clone(), sealing.clone());
        self.ask(move |device| device.run(|open| open.seal(&key, &sealing)))
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let sealed = sealed.clone();
        self.ask(move |device| device.run(|open| open.unseal(&sealed)))
    }
}
