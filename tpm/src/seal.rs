//! Sealing: a key that this TPM gives back only while certain PCRs hold what they held (TPM2_PolicyPCR).
//!
//! The parent is TCG's storage key of the owner hierarchy, made for each use: TPM2_Clear makes it another one, and what
//! was sealed is gone. The secret passes the bus encrypted, in a session salted to that key.

use attest::{Digest, HashAlg, PcrSelection, PcrValues};
use plugin_api::TpmError;
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
    error::{Misuse, failed, is_other_state, misuse},
    keys::{Loaded, authorized},
    pcr, template,
};

/// The key that is sealed.
pub type SealedKey = Zeroizing<[u8; 32]>;

/// What is kept of a sealed key: of use to this TPM alone, while its PCRs are as they were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE, without its size.
    pub private: Vec<u8>,
    /// The PCRs.
    pub pcrs: PcrSelection,
}

const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);
const CREATE: &str = "TPM2_Create";
const LOAD: &str = "TPM2_Load";
const UNSEAL: &str = "TPM2_Unseal";
const POLICY: &str = "TPM2_PolicyPCR";
/// The hash of all that is sealed, and of its policy.
const HASH: HashAlg = HashAlg::Sha256;

impl Open {
    /// Seals `secret` to `values` of `pcrs`, whatever the PCRs hold now.
    pub(crate) fn seal(
        &mut self,
        secret: &SealedKey,
        pcrs: &PcrSelection,
        values: &PcrValues,
    ) -> Result<Sealed, TpmError> {
        let public = template::sealed(policy(pcrs, values).as_bytes());
        let public = Public::unmarshall(&public).map_err(failed(CREATE))?;
        let secret = SensitiveData::try_from(secret.to_vec()).map_err(failed(CREATE))?;
        let parent = self.storage_key()?;
        self.using(parent, |open, parent| {
            let key = parent.handle;
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
                        pcrs: pcrs.clone(),
                    })
                },
            )
        })
    }

    /// The key; `None` if the PCRs hold something else, or another TPM sealed it.
    pub(crate) fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let parent = self.storage_key()?;
        self.using(parent, |open, parent| {
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
        let malformed = |_| misuse(LOAD, Misuse::NotSealed);
        let public = Public::unmarshall(&sealed.public).map_err(malformed)?;
        let private = Private::try_from(sealed.private.as_slice()).map_err(malformed)?;
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
fn policy(pcrs: &PcrSelection, values: &PcrValues) -> Digest {
    let banks: Vec<_> = pcrs.banks().collect();
    let count = u32::try_from(banks.len()).unwrap_or(u32::MAX);
    let selected = banks.iter().flat_map(|(bank, set)| {
        let [first, second, third, _] = set.mask().to_le_bytes();
        let [high, low] = bank.to_tpm().to_be_bytes();
        [high, low, 3, first, second, third]
    });
    let selection: Vec<u8> = count.to_be_bytes().into_iter().chain(selected).collect();
    let zeros = Digest::filled(0, HASH);
    let held = values.digest(pcrs, HASH);
    HASH.digest(&[zeros.as_bytes(), &CC_POLICY_PCR, &selection, held.as_bytes()])
}

const CC_POLICY_PCR: [u8; 4] = 0x0000_017f_u32.to_be_bytes();
