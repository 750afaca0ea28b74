//! Sealing: a key that this TPM gives back only while certain PCRs hold what they held (TPM2_PolicyPCR).
//!
//! The parent is TCG's storage key of the owner hierarchy, made for each use: TPM2_Clear makes it another one, and what
//! was sealed is gone. The secret passes the bus encrypted, in a session salted to that key. That helps against who only
//! listens there: nothing shows that the key is the TPM's, and not of somebody between CPU and TPM.

use attest::{Digest, HashAlg, PcrSelection};
use plugin_api::{Sealed, SealedKey, Sealing, TpmError};
use tss_esapi::{
    constants::SessionType,
    handles::KeyHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::{Digest as TpmDigest, Private, Public, SensitiveData},
    traits::{Marshall, UnMarshall},
};
use zeroize::Zeroizing;

use crate::{
    activate::Encrypts,
    device::Open,
    error::{failed, is_other_state},
    keys::{Loaded, authorized},
    pcr, template,
};

const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);
const CREATE: &str = "TPM2_Create";
const LOAD: &str = "TPM2_Load";
const UNSEAL: &str = "TPM2_Unseal";
const POLICY: &str = "TPM2_PolicyPCR";
/// The hash of all that is sealed, and of its policy.
const HASH: HashAlg = HashAlg::Sha256;

impl Open {
    /// Seals `secret`, whatever the PCRs hold now.
    pub(crate) fn seal(&mut self, secret: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        let public = template::sealed(policy(sealing).as_bytes());
        let public = Public::unmarshall(&public).map_err(failed(CREATE))?;
        let secret = SensitiveData::try_from(secret.to_vec()).map_err(failed(CREATE))?;
        let parent = self.storage_key()?;
        self.using(parent, |open, parent| {
            let (key, name) = (parent.handle, parent.name.clone());
            open.in_salted_session(
                SessionType::Hmac,
                HASH,
                key,
                Encrypts::Command,
                |open, session| {
                    let sessions = (PASSWORD, Some(session), None);
                    let made = open.context.execute_with_sessions(sessions, |context| {
                        context.create(key, public, None, Some(secret), None, None)
                    });
                    let made = made.map_err(failed(CREATE))?;
                    Ok(Sealed {
                        public: made.out_public.marshall().map_err(failed(CREATE))?,
                        private: made.out_private.value().to_vec(),
                        pcrs: sealing.pcrs().clone(),
                        parent: name,
                    })
                },
            )
        })
    }

    /// The key; `None` if the PCRs hold something else, another TPM sealed it, or none.
    pub(crate) fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let parent = self.storage_key()?;
        self.using(parent, |open, parent| {
            if parent.name != sealed.parent {
                return Ok(None);
            }
            let Some(item) = open.load_sealed(parent.handle, sealed)? else {
                return Ok(None);
            };
            open.using(item, |open, item| {
                let key = parent.handle;
                open.in_salted_session(
                    SessionType::Policy,
                    HASH,
                    key,
                    Encrypts::Answer,
                    |open, session| {
                        open.meet_policy(session, &sealed.pcrs)?;
                        let sessions = (Some(session), None, None);
                        let unsealed = open
                            .context
                            .execute_with_sessions(sessions, |context| context.unseal(item.handle.into()));
                        match unsealed {
                            Ok(secret) => Ok(secret.value().try_into().ok().map(Zeroizing::new)),
                            Err(error) if is_other_state(error) => Ok(None),
                            Err(error) => Err(failed(UNSEAL)(error)),
                        }
                    },
                )
            })
        })
    }

    fn load_sealed(&mut self, parent: KeyHandle, sealed: &Sealed) -> Result<Option<Loaded>, TpmError> {
        // What is no key of a TPM, no TPM opens.
        let public = Public::unmarshall(&sealed.public);
        let private = Private::try_from(sealed.private.as_slice());
        let (Ok(public), Ok(private)) = (public, private) else {
            return Ok(None);
        };
        let loaded = authorized(&mut self.context, |context| context.load(parent, private, public));
        match loaded {
            Ok(handle) => Ok(Some(Loaded::transient(handle))),
            Err(error) if is_other_state(error) => Ok(None),
            Err(error) => Err(failed(LOAD)(error)),
        }
    }

    /// Has the TPM note what the PCRs hold now.
    fn meet_policy(&mut self, session: AuthSession, pcrs: &PcrSelection) -> Result<(), TpmError> {
        let session = PolicySession::try_from(session).map_err(failed(POLICY))?;
        let pcrs = pcr::to_tpm(pcrs).map_err(failed(POLICY))?;
        self.context
            .policy_pcr(session, TpmDigest::default(), pcrs)
            .map_err(failed(POLICY))
    }
}

/// The digest of TPM2_PolicyPCR (Part 3 §23.7).
fn policy(sealing: &Sealing) -> Digest {
    let banks: Vec<_> = sealing.pcrs().banks().collect();
    let count = u32::try_from(banks.len()).unwrap_or(u32::MAX);
    let selected = banks.iter().flat_map(|(bank, set)| {
        let [first, second, third, _] = set.mask().to_le_bytes();
        let [high, low] = bank.to_tpm().to_be_bytes();
        [high, low, 3, first, second, third]
    });
    let selection: Vec<u8> = count.to_be_bytes().into_iter().chain(selected).collect();
    let zeros = Digest::filled(0, HASH);
    HASH.digest(&[zeros.as_bytes(), &CC_POLICY_PCR, &selection, sealing.pcr_digest()])
}

const CC_POLICY_PCR: [u8; 4] = 0x0000_017f_u32.to_be_bytes();
