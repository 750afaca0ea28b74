//! Keys that sign for the host: made in the TPM, and certified by the attestation key. Between two uses the TPM holds
//! nothing of them: who made a key keeps its context, which this TPM alone reads, and only until its next reset.

use attest::HashAlg;
use plugin_api::{RawCertification, TpmError, TpmKey};
use svid::TrustDomain;
use tss_esapi::{
    Error,
    interface_types::session_handles::AuthSession,
    structures::{Data, Digest, HashcheckTicket, SignatureScheme},
    traits::Marshall,
    tss2_esys::{TPM2B_CONTEXT_DATA, TPM2B_DIGEST, TPMS_CONTEXT, TPMT_TK_HASHCHECK},
    utils::TpmsContext,
};

use crate::{
    device::Open,
    error::{Misuse, failed, failed_to_load, misuse},
    keys::{Loaded, authorized},
    template,
};

const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);
/// Bytes of randomness that make a key another one than those before.
const UNIQUE: usize = 32;

impl Open {
    /// Makes a key that signs whatever it is given.
    pub(crate) fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        let unique = self
            .context
            .get_random(UNIQUE)
            .map_err(failed("TPM2_GetRandom"))?;
        let (made, public) = self.create_primary(&template::signing_key(unique.value()))?;
        self.using(made, |open, made| {
            let failed = failed("TPM2_ContextSave");
            let saved = open.context.context_save(made.handle.into()).map_err(&failed)?;
            let context = to_bytes(saved).map_err(&failed)?;
            Ok(TpmKey { public, context })
        })
    }

    /// TPMT_SIGNATURE over `message`.
    pub(crate) fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let failed = failed("TPM2_Sign");
        let digest = HashAlg::Sha256.digest(&[message]);
        let digest = Digest::try_from(digest.as_bytes()).map_err(&failed)?;
        let no_ticket = no_ticket().map_err(&failed)?;
        let loaded = self.load(key)?;
        self.using(loaded, |open, loaded| {
            authorized(&mut open.context, |context| {
                context.sign(loaded.handle, digest, SignatureScheme::Null, no_ticket)
            })
            .and_then(|signature| signature.marshall())
            .map_err(&failed)
        })
    }

    /// The attestation key's word for `key`.
    pub(crate) fn certify(
        &mut self,
        trust_domain: &TrustDomain,
        key: &TpmKey,
        extra_data: &[u8; 32],
    ) -> Result<RawCertification, TpmError> {
        let failed = failed("TPM2_Certify");
        let extra_data = Data::try_from(extra_data.as_slice()).map_err(&failed)?;
        let ak = self.known_ak(trust_domain)?;
        let loaded = self.load(key)?;
        self.using(loaded, |open, loaded| {
            open.using_ak(&ak, |open, ak| {
                let certified = open
                    .context
                    .execute_with_sessions((PASSWORD, PASSWORD, None), |context| {
                        context.certify(loaded.handle.into(), ak, extra_data, SignatureScheme::Null)
                    });
                certified
                    .and_then(|(attest, signature)| {
                        Ok(RawCertification {
                            attest: attest.marshall()?,
                            signature: signature.marshall()?,
                        })
                    })
                    .map_err(&failed)
            })
        })
    }

    fn load(&mut self, key: &TpmKey) -> Result<Loaded, TpmError> {
        const COMMAND: &str = "TPM2_ContextLoad";
        let context = from_bytes(&key.context).ok_or_else(|| misuse(COMMAND, Misuse::NoContext))?;
        let context = TpmsContext::try_from(context).map_err(failed(COMMAND))?;
        let object = self.context.context_load(context).map_err(failed_to_load)?;
        Ok(Loaded::transient(object.into()))
    }
}

/// What the TPM signs was hashed outside: there is no ticket for it.
fn no_ticket() -> Result<HashcheckTicket, Error> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: ST_HASHCHECK,
        hierarchy: RH_NULL,
        digest: TPM2B_DIGEST::default(),
    })
}

/// TPMS_CONTEXT (Part 2 §14.5), its data without a size.
fn to_bytes(saved: TpmsContext) -> Result<Vec<u8>, Error> {
    let data = saved.context_blob().clone();
    let saved = TPMS_CONTEXT::try_from(saved)?;
    Ok([
        &saved.sequence.to_be_bytes()[..],
        &saved.savedHandle.to_be_bytes(),
        &saved.hierarchy.to_be_bytes(),
        &data,
    ]
    .concat())
}

fn from_bytes(bytes: &[u8]) -> Option<TPMS_CONTEXT> {
    let (sequence, bytes) = bytes.split_first_chunk()?;
    let (handle, bytes) = bytes.split_first_chunk()?;
    let (hierarchy, data) = bytes.split_first_chunk()?;
    let mut blob = TPM2B_CONTEXT_DATA {
        size: data.len().try_into().ok()?,
        ..TPM2B_CONTEXT_DATA::default()
    };
    blob.buffer.get_mut(..data.len())?.copy_from_slice(data);
    Some(TPMS_CONTEXT {
        sequence: u64::from_be_bytes(*sequence),
        savedHandle: u32::from_be_bytes(*handle),
        hierarchy: u32::from_be_bytes(*hierarchy),
        contextBlob: blob,
    })
}

const ST_HASHCHECK: u16 = 0x8024;
const RH_NULL: u32 = 0x4000_0007;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_they_were_written() {
        let bytes = [
            &[0, 0, 0, 0, 0, 0, 0, 9][..],
            &[0x80, 0, 0, 0],
            &[0x40, 0, 0, 0x0B],
            &[7; 500],
        ]
        .concat();
        let read = from_bytes(&bytes).unwrap();
        assert_eq!((read.sequence, read.contextBlob.size), (9, 500));
        assert_eq!(to_bytes(TpmsContext::try_from(read).unwrap()).unwrap(), bytes);
        assert!(from_bytes(&bytes[..15]).is_none());
        assert!(from_bytes(&vec![0; 9000]).is_none());
    }
}
