//! TPM2_ActivateCredential, in a session that only the holder of the endorsement key can answer.

use attest::HashAlg;
use plugin_api::{Activation, TpmError};
use svid::TrustDomain;
use tracing::warn;
use tss_esapi::{
    Error,
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::{AuthHandle, KeyHandle, SessionHandle},
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{Digest, DigestList, EncryptedSecret, IdObject, Nonce, SymmetricDefinition},
};
use zeroize::Zeroizing;

use crate::{
    device::Open,
    ek::Ek,
    error::{Hierarchy, failed, failed_in, failed_to_activate, is_lost},
    keys::authorized,
    template::EkTemplate,
};

/// Both keys, loaded.
#[derive(Clone, Copy)]
struct Pair {
    ek: KeyHandle,
    ak: KeyHandle,
}

/// What a session encrypts beside what it authorizes.
#[derive(Clone, Copy)]
pub(crate) enum Encrypts {
    /// The first parameter of the answer.
    Answer,
    /// The first parameter of the command.
    Command,
}

type Secret = Zeroizing<Vec<u8>>;
/// Authorization of the attestation key, of the endorsement key, and one that only encrypts.
type Sessions = (Option<AuthSession>, Option<AuthSession>, Option<AuthSession>);

const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

impl Open {
    /// Recovers a credential. The endorsement key must be the one on record, before anything is decrypted.
    pub(crate) fn activate(
        &mut self,
        trust_domain: &TrustDomain,
        activation: &Activation,
    ) -> Result<Secret, TpmError> {
        let on_record = |ek: &&Ek| ek.name == activation.endorsement_key;
        let ek = self.endorsement_keys()?.iter().find(on_record).cloned();
        let ek = ek.ok_or(TpmError::InterposerSuspected)?;
        let ak = self.attestation_key(trust_domain)?;
        let loaded = self.load_ek(&ek)?;
        self.using(loaded, |open, loaded| {
            if loaded.name.as_ref() != Some(&activation.endorsement_key) {
                return Err(TpmError::InterposerSuspected);
            }
            let ek_handle = loaded.handle;
            open.using_ak(&ak, |open, ak| {
                open.recover(ek.origin.template, Pair { ek: ek_handle, ak }, activation)
            })
        })
    }

    fn recover(
        &mut self,
        template: &EkTemplate,
        keys: Pair,
        activation: &Activation,
    ) -> Result<Secret, TpmError> {
        let (branches, name_alg) = (template.policy_branches(), template.name_alg());
        let by_policy = self.in_salted_session(
            SessionType::Policy,
            name_alg,
            keys.ek,
            Encrypts::Answer,
            |open, session| {
                open.satisfy_policy(session, branches.as_ref())?;
                open.activate_in((PASSWORD, Some(session), None), keys, activation)
            },
        );
        match by_policy {
            // The password of the endorsement hierarchy may be unknown to us; the key itself has none.
            Err(error @ (TpmError::Auth { .. } | TpmError::Command { .. }))
                if branches.is_some() && !is_lost(&error) =>
            {
                warn!(template = template.name, %error, "Endorsement key's policy not met; its own password was tried");
                self.in_salted_session(
                    SessionType::Hmac,
                    name_alg,
                    keys.ek,
                    Encrypts::Answer,
                    |open, session| open.activate_in((PASSWORD, PASSWORD, Some(session)), keys, activation),
                )
            }
            done => done,
        }
    }

    fn activate_in(
        &mut self,
        sessions: Sessions,
        keys: Pair,
        activation: &Activation,
    ) -> Result<Secret, TpmError> {
        let malformed = |_| TpmError::Credential;
        let blob = IdObject::try_from(activation.credential_blob.as_slice()).map_err(malformed)?;
        let secret = EncryptedSecret::try_from(activation.secret.as_slice()).map_err(malformed)?;
        let recovered = self.context.execute_with_sessions(sessions, |context| {
            context.activate_credential(keys.ak, keys.ek, blob, secret)
        });
        let recovered = recovered.map_err(failed_to_activate)?;
        Ok(Zeroizing::new(recovered.value().to_vec()))
    }

    /// Authorizes the use of an endorsement key (EK Credential Profile §B.3 and §B.4).
    fn satisfy_policy(
        &mut self,
        session: AuthSession,
        branches: Option<&[attest::Digest; 2]>,
    ) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_PolicySecret";
        let session = session.try_into().map_err(failed(COMMAND))?;
        let (nonce, cp_hash, reference) = (Nonce::default(), Digest::default(), Nonce::default());
        authorized(&mut self.context, |context| {
            context.policy_secret(session, AuthHandle::Endorsement, nonce, cp_hash, reference, None)
        })
        .map_err(failed_in(Hierarchy::Endorsement, COMMAND))?;
        let Some(branches) = branches else { return Ok(()) };
        digest_list(branches)
            .and_then(|list| self.context.policy_or(session, list))
            .map_err(failed("TPM2_PolicyOR"))
    }

    /// Runs a command in a session of which only the holder of `key` knows the secret, and which encrypts what is secret.
    /// `hash` is that of the key's Name.
    pub(crate) fn in_salted_session<T>(
        &mut self,
        kind: SessionType,
        hash: HashAlg,
        key: KeyHandle,
        encrypts: Encrypts,
        act: impl FnOnce(&mut Self, AuthSession) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let session = self
            .start_salted(kind, hash, key)
            .map_err(failed("TPM2_StartAuthSession"))?;
        let attributes = SessionAttributesBuilder::new();
        let (attributes, mask) = match encrypts {
            Encrypts::Answer => attributes.with_encrypt(true),
            Encrypts::Command => attributes.with_decrypt(true),
        }
        .build();
        let result = self
            .context
            .tr_sess_set_attributes(session, attributes, mask)
            .map_err(failed("TPM2_StartAuthSession"))
            .and_then(|()| act(self, session));
        self.flush(SessionHandle::from(session).into());
        result
    }

    fn start_salted(
        &mut self,
        kind: SessionType,
        hash: HashAlg,
        ek: KeyHandle,
    ) -> Result<AuthSession, Error> {
        let (hash, cipher) = match hash {
            HashAlg::Sha384 => (HashingAlgorithm::Sha384, SymmetricDefinition::AES_256_CFB),
            _ => (HashingAlgorithm::Sha256, SymmetricDefinition::AES_128_CFB),
        };
        let session = self
            .context
            .start_auth_session(Some(ek), None, None, kind, cipher, hash)?;
        session.ok_or(Error::WrapperError(
            tss_esapi::WrapperErrorKind::WrongValueFromTpm,
        ))
    }
}

fn digest_list(digests: &[attest::Digest]) -> Result<DigestList, Error> {
    let mut list = DigestList::new();
    for digest in digests {
        list.add(digest.as_bytes().try_into()?)?;
    }
    Ok(list)
}
