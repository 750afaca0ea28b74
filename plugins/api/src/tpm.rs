//! What a prover asks of the host's TPM.

use std::{path::PathBuf, time::Duration};

use attest::{Name, PcrSelection, PcrValues};
use svid::TrustDomain;
use zeroize::Zeroizing;

use crate::{Sealed, SealedKey, Sealing};

/// The host's TPM. Calls block for as long as the TPM takes: up to seconds on real hardware.
pub trait TpmDevice: Send {
    /// The endorsement keys with their certificates, and the attestation key of `trust_domain`, which is made
    /// where it does not exist. After the first time this needs no key generation.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError>;

    /// Signs the values of `selection` and `extra_data` with the attestation key: one TPM2_Quote.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError>;

    /// Recovers the credential that was made for an endorsement key and our attestation key
    /// (TPM2_ActivateCredential), in a session salted to that endorsement key.
    ///
    /// # Errors
    ///
    /// The credential was made for other keys, or the TPM can't be used.
    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError>;

    /// Reads PCR values. Unsigned: good for diagnostics only.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError>;

    /// Makes a key (ECC P-256) in the TPM that signs whatever it is given, another one each time. Nothing of it stays
    /// in the TPM between its uses: who drops what is returned, drops the key.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn create_key(&mut self) -> Result<TpmKey, TpmError>;

    /// Signs `message` with such a key: ECDSA over its SHA-256, as TPMT_SIGNATURE.
    ///
    /// # Errors
    ///
    /// The key is gone, or the TPM can't be used.
    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError>;

    /// Has the attestation key say that such a key is in the TPM (TPM2_Certify), and sign `extra_data` with that.
    ///
    /// # Errors
    ///
    /// The key is gone, or the TPM can't be used.
    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError>;

    /// Seals a key, whatever the PCRs hold now: this TPM alone gives it back, while they hold what `sealing` says.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError>;

    /// The key that was sealed; `None` if the PCRs hold something else, another TPM sealed it, or none.
    ///
    /// # Errors
    ///
    /// The TPM can't be used; the error says what to do.
    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError>;
}

/// The keys by which a TPM is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmIdentity {
    /// Endorsement keys, the strongest first.
    pub endorsement_keys: Vec<TpmEk>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: Vec<u8>,
}

/// An endorsement key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmEk {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// Certificate as read from NV memory.
    pub certificate: Option<Vec<u8>>,
    /// Intermediate certificates from NV memory (0x01C00100 to 0x01C001FF), in DER.
    pub chain: Vec<Vec<u8>>,
}

/// A quote as the TPM made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawQuote {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A key that the TPM keeps to itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// What brings it back into the TPM: of use to this TPM alone, and only until its next reset.
    pub context: Vec<u8>,
}

/// A certification as the TPM made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawCertification {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A credential to recover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Activation {
    /// The endorsement key that it was made for.
    pub endorsement_key: Name,
    /// TPM2B_ID_OBJECT, without its size.
    pub credential_blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, without its size.
    pub secret: Vec<u8>,
}

/// The TPM can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// A hierarchy wants a password that is not configured, or another one.
    #[error(
        "the TPM's {hierarchy} hierarchy wants another password; set `{setting}` in [plugins.node-tpm] to a file that holds it"
    )]
    Auth {
        /// `endorsement` or `owner`.
        hierarchy: &'static str,
        /// The setting that names the password file.
        setting: &'static str,
    },
    /// More is asked of the TPM than it can do.
    #[error("the TPM is busy: {limit} requests wait for it already")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The credential was not made for this TPM's keys.
    #[error("the server's credential was made for another TPM or attestation key")]
    Credential,
    /// A hierarchy is switched off.
    #[error("the TPM's {0} hierarchy is disabled; enable it in the firmware setup (TPM, Security Device)")]
    HierarchyDisabled(&'static str),
    /// The session is not with the key it was salted to.
    #[error(
        "the endorsement key that the TPM uses is not the one on record: something sits between CPU and TPM"
    )]
    InterposerSuspected,
    /// Too many wrong passwords.
    #[error(
        "the TPM is in dictionary-attack lockout; wait for it to recover, or run `tpm2_dictionarylockout --clear-lockout`"
    )]
    Lockout,
    /// A key that the TPM made signs no more.
    #[error("the TPM no longer takes this key: it was reset or cleared since it made the key")]
    KeyGone(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The TPM hangs: it let the limit of a request pass, and has not answered it since.
    #[error(
        "TPM `{tcti}` did not answer `{operation}` within {limit:?}; nothing else is asked of it until it does. If that lasts, see what the kernel says (`journalctl -k -g tpm`), and power the machine off and on"
    )]
    NoAnswer {
        /// How it is addressed.
        tcti: Box<str>,
        /// What it was asked for.
        operation: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// There is no endorsement key of a known template.
    #[error("the TPM has no endorsement key of a known template (RSA-2048, ECC P-256, ECC P-384)")]
    NoEndorsementKey,
    /// There is no room to keep a key.
    #[error(
        "the TPM has no free slot for a persistent key; remove an unused one with `tpm2_evictcontrol` (list: `tpm2_getcap handles-persistent`)"
    )]
    NoFreeSlot,
    /// The memory for keys in use is full.
    #[error(
        "the TPM has no room to load a key; use `device:/dev/tpmrm0`, or free it with `tpm2_flushcontext --transient-object`"
    )]
    NoMemory,
    /// The device is missing, busy or not permitted.
    #[error("cannot open TPM `{tcti}`; is it there, and may this user read and write it (group `tss`)?")]
    Open {
        /// How it was addressed.
        tcti: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A password file can't be used.
    #[error("cannot take a password from `{}`, which `{setting}` in [plugins.node-tpm] names", path.display())]
    Secret {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Any other answer of the TPM.
    #[error("TPM command {command} failed")]
    Command {
        /// Such as `TPM2_Quote`.
        command: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The thread that owns the TPM is gone.
    #[error("the TPM is no longer served")]
    Stopped,
}
