//! The agent's side: has the TPM sign, and says what its keys and logs are.

mod command_line;
mod config;
mod measured;
mod runtime;
mod seal;
mod svid_key;

use std::collections::VecDeque;

use attest::{Binding as Subject, EvidenceKind, HashAlg, Name, PcrSelection, hello_digest, wire::Public};
use plugin_api::{
    Activation, Binding, HostKey, NodeProver, ProverError, RawQuote, Sealed, SealedKey, Sealing, TpmDevice,
    TpmEk, TpmError, TpmIdentity,
};
use prost::Message;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};
use svid::TrustDomain;
use tracing::info;

use crate::{
    NAME, NO_NONCE,
    wire::{selection_from_wire, selection_to_wire, values_to_wire},
};
pub use config::Config;
use measured::MeasuredLog;
use runtime::RuntimeList;
pub use svid_key::SvidKey;

/// Opens the host's TPM.
pub type OpenTpm = Box<dyn FnMut() -> Result<Box<dyn TpmDevice>, TpmError> + Send>;

/// Proves the host by its TPM.
pub struct TpmProver {
    config: Config,
    trust_domain: TrustDomain,
    open: OpenTpm,
    tpm: Option<Box<dyn TpmDevice>>,
    /// What the TPM and the firmware say of themselves; read once, and again after a failure.
    known: Option<Known>,
    /// The latest last: an older session goes on until the newer one stands.
    conversations: VecDeque<Conversation>,
    /// What is quoted first: what the server asked for last.
    selection: PcrSelection,
    /// The key that was made last, until it is certified.
    svid_key: Option<HostKey>,
    /// Whether the TPM signs fast enough for that, once it is known.
    is_fast: Option<bool>,
}

struct Known {
    identity: TpmIdentity,
    /// Names of the endorsement keys.
    names: Vec<Name>,
    log: Option<MeasuredLog>,
    list: Option<RuntimeList>,
}

/// What every quote on a connection is about.
#[derive(Clone)]
struct Conversation {
    exporter: [u8; 32],
    /// Empty where none is asked for.
    csr: Vec<u8>,
    /// Digest of the hello.
    hello: [u8; 32],
}

/// Most connections that are remembered.
const MAX_CONVERSATIONS: usize = 4;

impl Conversation {
    fn subject<'a>(&'a self, kind: EvidenceKind, nonce: &'a [u8; 32]) -> Subject<'a> {
        Subject {
            kind,
            exporter: &self.exporter,
            nonce,
            csr: if kind == EvidenceKind::Session {
                &[]
            } else {
                &self.csr
            },
            hello: &self.hello,
        }
    }
}

impl TpmProver {
    /// Proves this host in `trust_domain`, by the TPM that `open` opens.
    #[must_use]
    pub fn new(config: Config, trust_domain: TrustDomain, open: OpenTpm) -> Self {
        Self {
            config,
            trust_domain,
            open,
            tpm: None,
            known: None,
            conversations: VecDeque::new(),
            selection: PcrSelection::standard(),
            svid_key: None,
            is_fast: None,
        }
    }

    /// Uses the TPM; after a failure everything is read anew.
    fn with_tpm<T>(
        &mut self,
        act: impl FnOnce(&mut dyn TpmDevice) -> Result<T, TpmError>,
    ) -> Result<T, ProverError> {
        let mut tpm = match self.tpm.take() {
            Some(tpm) => tpm,
            None => (self.open)()?,
        };
        let outcome = act(tpm.as_mut());
        match &outcome {
            Ok(_) => self.tpm = Some(tpm),
            Err(_) => self.known = None,
        }
        Ok(outcome?)
    }

    fn known(&self) -> Result<&Known, ProverError> {
        self.known
            .as_ref()
            .ok_or_else(|| ProverError::NotReady("the TPM was not asked for its keys yet".into()))
    }

    fn hello(&self) -> Result<Bytes, ProverError> {
        let known = self.known()?;
        let hello = wire::Hello {
            endorsement_keys: known.identity.endorsement_keys.iter().map(ek_to_wire).collect(),
            attestation_key: known.identity.attestation_key.clone().into(),
            selection: selection_to_wire(&self.selection),
            logs: known
                .log
                .iter()
                .map(MeasuredLog::to_wire)
                .chain(known.list.iter().map(|_| RuntimeList::to_wire()))
                .collect(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(hello.encode_to_vec().into())
    }

    /// One TPM command.
    fn quote(&mut self, subject: &Subject<'_>) -> Result<wire::Quote, ProverError> {
        let (extra_data, selection) = (subject.extra_data(), self.selection.clone());
        let RawQuote { attest, signature } = self.with_tpm(|tpm| tpm.quote(&extra_data, &selection))?;
        Ok(wire::Quote {
            attest: attest.into(),
            signature: signature.into(),
            values: Vec::new(),
        })
    }

    /// The values that `quote` is about, where the log does not explain it: another TPM command.
    fn values(&mut self, quote: &wire::Quote) -> Result<Vec<wire::PcrValue>, ProverError> {
        let selection = self.selection.clone();
        match &self.known()?.log {
            Some(log) if !log.explains(&quote.attest, &selection) => {
                let values = self.with_tpm(|tpm| tpm.read_pcrs(&selection))?;
                Ok(values_to_wire(&values))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The standard PCRs, of every bank that the TPM has active and that counts.
    fn active_banks(&mut self) -> Result<PcrSelection, ProverError> {
        let standard = PcrSelection::standard();
        let pcrs = standard.of(HashAlg::Sha256);
        let sha384 = PcrSelection::new(vec![(HashAlg::Sha384, pcrs)]).map_err(not_acceptable)?;
        let values = self.with_tpm(|tpm| tpm.read_pcrs(&sha384))?;
        if values.iter().next().is_none() {
            return Ok(standard);
        }
        PcrSelection::new(standard.banks().chain(sha384.banks()).collect()).map_err(not_acceptable)
    }

    fn activate(&mut self, activate: wire::Activate) -> Result<wire::answer::Step, ProverError> {
        let activation = Activation {
            endorsement_key: Name::parse(&activate.endorsement_key_name).map_err(not_acceptable)?,
            credential_blob: activate.credential_blob.into(),
            secret: activate.secret.into(),
        };
        let recovered = self.with_tpm(|tpm| tpm.activate(&activation))?;
        Ok(wire::answer::Step::Credential(Bytes::copy_from_slice(&recovered)))
    }

    fn supply(&mut self, need: &wire::Need) -> Result<wire::answer::Step, ProverError> {
        let conversation = self.conversations.back().cloned();
        let conversation = conversation.ok_or_else(|| refuse("it comes before an attestation"))?;
        let supplied = self.supplied(need, &conversation, EvidenceKind::Attest)?;
        Ok(wire::answer::Step::Supplied(supplied))
    }

    fn supplied(
        &mut self,
        need: &wire::Need,
        conversation: &Conversation,
        kind: EvidenceKind,
    ) -> Result<wire::Supplied, ProverError> {
        let nonce: [u8; 32] = (&*need.nonce).try_into().map_err(not_acceptable)?;
        let selection = selection_from_wire(&need.selection);
        self.selection = selection.ok_or_else(|| refuse("it asks for PCRs that no TPM has"))?;
        let mut quote = self.quote(&conversation.subject(kind, &nonce))?;
        let mut command_line = Bytes::new();
        if wants(need, wire::LogKind::EventLog) {
            quote.values = self.values(&quote)?;
            command_line = command_line::read(&self.config.command_line_path);
        }
        Ok(wire::Supplied {
            quote: Some(quote),
            logs: self.logs(need)?,
            command_line,
        })
    }

    fn remember(&mut self, conversation: Conversation) {
        self.conversations.push_back(conversation);
        if self.conversations.len() > MAX_CONVERSATIONS {
            self.conversations.pop_front();
        }
    }

    /// The logs that are asked for; of the kernel's list what it got since, after the quote.
    fn logs(&self, need: &wire::Need) -> Result<Vec<wire::Log>, ProverError> {
        let known = self.known()?;
        let mut logs = Vec::new();
        if let Some(log) = known
            .log
            .as_ref()
            .filter(|_| wants(need, wire::LogKind::EventLog))
        {
            logs.push(log.read()?);
        }
        if let Some(list) = known.list.as_ref().filter(|_| wants(need, wire::LogKind::Ima)) {
            logs.push(list.read(&need.list_from.unwrap_or_default())?);
        }
        Ok(logs)
    }
}

impl NodeProver for TpmProver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<(), ProverError> {
        if self.known.is_some() {
            return Ok(());
        }
        let trust_domain = self.trust_domain.clone();
        let identity = self.with_tpm(|tpm| tpm.identify(&trust_domain))?;
        self.selection = self.active_banks()?;
        let names = identity.endorsement_keys.iter().filter_map(name_of).collect();
        let log = MeasuredLog::open(&self.config.event_log_path)?;
        let list = RuntimeList::find(&self.config.ima_log_path);
        info!(
            count = identity.endorsement_keys.len(),
            has_event_log = log.is_some(),
            "TPM identified"
        );
        self.known = Some(Known {
            identity,
            names,
            log,
            list,
        });
        Ok(())
    }

    fn create_svid_key(&mut self) -> Result<Option<HostKey>, ProverError> {
        let key = self.make_svid_key()?;
        // A TPM that failed is asked anew for all that it said.
        self.prepare()?;
        Ok(key)
    }

    fn sign(&mut self, key: &HostKey, message: &[u8]) -> Result<Vec<u8>, ProverError> {
        self.sign_with(key, message)
    }

    fn begin(&mut self, binding: &Binding) -> Result<Vec<u8>, ProverError> {
        let hello = self.hello()?;
        let conversation = Conversation {
            exporter: binding.exporter,
            csr: binding.csr.clone(),
            hello: hello_digest(&hello),
        };
        let quote = self.quote(&conversation.subject(EvidenceKind::Attest, &NO_NONCE))?;
        let certification = self.certification(&conversation)?;
        self.remember(conversation);
        Ok(evidence(hello, quote, certification))
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ProverError> {
        let challenge = wire::Challenge::decode(challenge).map_err(not_acceptable)?;
        let step = match challenge.step {
            Some(wire::challenge::Step::Activate(activate)) => self.activate(activate)?,
            Some(wire::challenge::Step::Need(need)) => self.supply(&need)?,
            None => return Err(refuse("it asks for nothing that this agent knows")),
        };
        Ok(wire::Answer { step: Some(step) }.encode_to_vec())
    }

    fn resume(&mut self, exporter: &[u8; 32]) -> Result<Option<Vec<u8>>, ProverError> {
        self.prepare()?;
        let hello = self.hello()?;
        let conversation = Conversation {
            exporter: *exporter,
            csr: Vec::new(),
            hello: hello_digest(&hello),
        };
        let quote = self.quote(&conversation.subject(EvidenceKind::Session, &NO_NONCE))?;
        self.remember(conversation);
        Ok(Some(evidence(hello, quote, None)))
    }

    fn answer_round(&mut self, exporter: &[u8; 32], asked: &[u8]) -> Result<Vec<u8>, ProverError> {
        let need = wire::Need::decode(asked).map_err(not_acceptable)?;
        self.prepare()?;
        let mut known = self.conversations.iter();
        let conversation = known.find(|known| known.exporter == *exporter).cloned();
        let conversation =
            conversation.ok_or_else(|| refuse("the host has not proven itself on this connection"))?;
        let supplied = self.supplied(&need, &conversation, EvidenceKind::Session)?;
        Ok(supplied.encode_to_vec())
    }

    fn recognise(&mut self, endorsement_key_name: &[u8]) -> Result<(), ProverError> {
        let names = &self.known()?.names;
        if names.iter().any(|name| name.as_bytes() == endorsement_key_name) {
            Ok(())
        } else {
            Err(TpmError::InterposerSuspected.into())
        }
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Option<Sealed>, ProverError> {
        self.seal_key(key, sealing).map(Some)
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, ProverError> {
        self.unseal_key(sealed)
    }

    fn refused(&mut self) {
        self.known = None;
        // It may be for want of a key in the TPM: a slow moment does not decide for good.
        self.is_fast = None;
    }
}

fn wants(need: &wire::Need, kind: wire::LogKind) -> bool {
    need.logs().any(|wanted| wanted == kind)
}

fn evidence(hello: Bytes, quote: wire::Quote, certification: Option<wire::Certification>) -> Vec<u8> {
    let evidence = wire::Evidence {
        hello,
        quote: Some(quote),
        certification: certification.map(Box::new),
    };
    evidence.encode_to_vec()
}

fn ek_to_wire(key: &TpmEk) -> wire::EndorsementKey {
    wire::EndorsementKey {
        public: key.public.clone().into(),
        certificate: key.certificate.clone().unwrap_or_default().into(),
        chain: key.chain.iter().cloned().map(Bytes::from).collect(),
    }
}

fn name_of(key: &TpmEk) -> Option<Name> {
    Public::parse(&key.public).ok().map(|public| public.name())
}

fn not_acceptable(error: impl std::fmt::Display) -> ProverError {
    ProverError::Challenge(error.to_string())
}

fn refuse(why: &str) -> ProverError {
    ProverError::Challenge(why.into())
}
