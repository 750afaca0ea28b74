//! The key of the host's SVID, where it is made in the TPM: whether that is fast enough, and what is sent of it.

use std::time::{Duration, Instant};

use attest::{
    EvidenceKind,
    wire::{Public, Signature},
};
use plugin_api::{HostKey, ProverError, TpmDevice, TpmError, TpmKey};
use proto::plastron::attest::v1 as wire;
use serde::Deserialize;
use svid::x509::{CertificateRequest, PublicKey};
use tracing::{info, warn};

use super::{Conversation, TpmProver};
use crate::NO_NONCE;

/// Where the key of the host's SVID is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SvidKey {
    /// In the TPM if that signs fast enough, which is measured once, else in the agent's memory.
    #[default]
    Auto,
    /// In the agent's memory: a host that is known attests with one TPM command.
    Memory,
    /// In the TPM.
    Tpm,
}

/// How many signatures are timed; the one in the middle counts.
const SIGNATURES: usize = 3;
/// A TPM that takes longer to sign is not used unless it has to be. With a key in the TPM an attestation takes three
/// signatures instead of one, and a connection that is dialed anew two, while nothing else can be asked of the TPM: so a
/// host is back 0.2 s after a cut at most, and half of all TPMs (71 ms) are fast enough.
const LIMIT: Duration = Duration::from_millis(100);

impl TpmProver {
    /// Makes a key in the TPM, if that is where it is to be.
    pub(super) fn make_svid_key(&mut self) -> Result<Option<HostKey>, ProverError> {
        self.svid_key = None;
        let is_in_tpm = match self.config.svid_key {
            SvidKey::Auto => self.signs_fast(),
            SvidKey::Memory => false,
            SvidKey::Tpm => true,
        };
        if !is_in_tpm {
            return Ok(None);
        }
        let made = self.with_tpm(|tpm| tpm.create_key()).and_then(host_key);
        match made {
            Ok(key) => {
                self.svid_key = Some(key.clone());
                Ok(Some(key))
            }
            Err(error) if self.config.svid_key == SvidKey::Auto => {
                warn!(%error, "TPM makes no key for the SVID; it is made in memory");
                self.is_fast = None;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the TPM signs fast enough. One that does not sign at all may do so the next time.
    fn signs_fast(&mut self) -> bool {
        if let Some(known) = self.is_fast {
            return known;
        }
        match self.with_tpm(time_signatures) {
            Ok(times) => {
                let taken = median(times);
                let is_fast = taken <= LIMIT;
                let place = if is_fast { "tpm" } else { "memory" };
                info!(?taken, limit = ?LIMIT, svid_key = place, "TPM's signatures timed");
                self.is_fast = Some(is_fast);
                is_fast
            }
            Err(error) => {
                warn!(%error, "TPM's signatures can't be timed; the SVID's key is made in memory");
                false
            }
        }
    }

    /// What is sent of the key that was made last, if the request in this conversation is for it.
    pub(super) fn certification(
        &mut self,
        conversation: &Conversation,
    ) -> Result<Option<wire::Certification>, ProverError> {
        let Some(key) = self.svid_key.take_if(|key| is_for(&conversation.csr, key)) else {
            return Ok(None);
        };
        let extra_data = conversation
            .subject(EvidenceKind::Certify, &NO_NONCE)
            .extra_data();
        let certified = self.with_tpm(|tpm| tpm.certify(&key.tpm_key, &extra_data))?;
        Ok(Some(wire::Certification {
            public: key.tpm_key.public.into(),
            attest: certified.attest.into(),
            signature: certified.signature.into(),
        }))
    }

    /// Signs with a key of this host.
    pub(super) fn sign_with(&mut self, key: &HostKey, message: &[u8]) -> Result<Vec<u8>, ProverError> {
        let signature = self.with_tpm(|tpm| tpm.sign(&key.tpm_key, message))?;
        match Signature::parse(&signature) {
            Ok(Signature::Ecdsa { r, s, .. }) => Ok(ecdsa_der(&r, &s)),
            _ => Err(ProverError::NotReady("the TPM's signature is not ECDSA".into())),
        }
    }
}

/// How long a few signatures take, with all that goes with each.
fn time_signatures(tpm: &mut dyn TpmDevice) -> Result<[Duration; SIGNATURES], TpmError> {
    let key = tpm.create_key()?;
    let mut times = [Duration::ZERO; SIGNATURES];
    for taken in &mut times {
        let began = Instant::now();
        tpm.sign(&key, b"how long does it take?")?;
        *taken = began.elapsed();
    }
    Ok(times)
}

fn median(mut times: [Duration; SIGNATURES]) -> Duration {
    times.sort_unstable();
    let [_, median, _] = times;
    median
}

fn host_key(tpm_key: TpmKey) -> Result<HostKey, ProverError> {
    let unusable = || ProverError::NotReady("the TPM made a key that no SVID can have".into());
    let public = Public::parse(&tpm_key.public).map_err(|_| unusable())?;
    let public_key = PublicKey::from_spki(&public.to_spki()).map_err(|_| unusable())?;
    Ok(HostKey { public_key, tpm_key })
}

fn is_for(csr: &[u8], key: &HostKey) -> bool {
    CertificateRequest::verify(csr).is_ok_and(|request| request.public_key == key.public_key)
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3). No half of a P-256 signature makes it longer than a short length says.
fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let halves = [integer(r), integer(s)].concat();
    element(0x30, &halves)
}

fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let significant = number.get(zeros..).unwrap_or_default();
    let is_short = significant.first().is_some_and(|byte| byte & 0x80 == 0);
    let sign: &[u8] = if is_short { &[] } else { &[0] };
    element(0x02, &[sign, significant].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[tag, length], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_in_the_form_of_x509() {
        let check = |r: &[u8], s: &[u8], expected: &[u8]| assert_eq!(ecdsa_der(r, s), expected);
        check(&[1], &[0x7f], &[0x30, 6, 2, 1, 1, 2, 1, 0x7f]);
        check(&[0, 0, 1], &[0x80], &[0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
        check(&[0, 0x80], &[0], &[0x30, 7, 2, 2, 0, 0x80, 2, 1, 0]);
        let long = ecdsa_der(&[0xff; 32], &[0xff; 32]);
        assert_eq!((long.len(), &long[..5]), (72, &[0x30, 70, 2, 33, 0][..]));
    }

    #[test]
    fn one_signature_that_took_long_does_not_count() {
        let times = |times: [u64; SIGNATURES]| median(times.map(Duration::from_millis));
        assert!(times([900, 70, 80]) <= LIMIT);
        assert!(times([1, 110, 120]) > LIMIT);
    }

    #[test]
    fn where_the_key_is_has_three_names() {
        let read = |text: &str| toml::from_str::<super::super::Config>(text).map(|config| config.svid_key);
        assert_eq!(read("").unwrap(), SvidKey::Auto);
        assert_eq!(read("svid_key = \"memory\"").unwrap(), SvidKey::Memory);
        assert_eq!(read("svid_key = \"tpm\"").unwrap(), SvidKey::Tpm);
        assert!(read("svid_key = \"disk\"").is_err());
    }
}
