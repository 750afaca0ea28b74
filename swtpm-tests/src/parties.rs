//! A host and a server in this very process, and what passes between them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use attest::{
    HashAlg, Name, PcrSelection, PcrValues,
    ek::{CertificateId, EkHash, EndorsementKey},
    event_log::EventLog,
    policy::Generations,
    wire::{Public, PublicKey},
};
use node_tpm::{AgentConfig, Config, TpmAttestor, TpmProver};
use plugin_api::{
    Activation, Attested, Binding, Claim, Context, EnrolledEk, Host, HostClaim, HostPolicies, JoinToken,
    Newcomer, NodeAttestor, NodeProver, RawCertification, RawQuote, Records, Refusal, Sealed, SealedKey,
    Sealing, Step, TpmDevice, TpmError, TpmIdentity, TpmKey,
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use svid::{Timestamp, TrustDomain};

use crate::{
    SoftwareTpm,
    vendor::{Ca, Change},
};

/// A machine: a TPM, an event log, and the agent's prover.
pub struct Machine {
    /// Its TPM.
    pub tpm: Arc<Mutex<SoftwareTpm>>,
    /// What its agent proves it with.
    pub prover: TpmProver,
    /// The file of its event log.
    pub log: PathBuf,
    /// Where its kernel's list is, once there is one.
    pub list: PathBuf,
    /// Where its kernel's command line is, once there is one.
    pub command_line: PathBuf,
    _dir: tempfile::TempDir,
}

/// The endorsement key of a software TPM.
struct EkPoint(Vec<u8>);

impl PublicKeyData for EkPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The server's side.
pub struct Server {
    /// What decides.
    pub attestor: TpmAttestor,
    /// Its rows of hosts.
    pub hosts: Vec<Arc<Host>>,
    /// What all hosts are held to.
    pub policies: Vec<Arc<Generations>>,
}

/// One connection.
#[derive(Clone, Copy)]
pub struct Wire {
    /// Its TLS exporter.
    pub exporter: [u8; 32],
    /// The certificate request that is sent over it.
    pub csr: &'static [u8],
}

/// What became of an attestation.
#[derive(Debug)]
pub enum Outcome {
    /// The host is known.
    Attested(Attested),
    /// It is not.
    Newcomer(Newcomer),
}

/// Some connection.
pub const WIRE: Wire = Wire {
    exporter: [1; 32],
    csr: b"csr",
};
const NOW: Timestamp = Timestamp::from_unix(1_790_000_000);

/// A ThinkPad's log.
///
/// # Panics
///
/// It is missing.
#[must_use]
pub fn event_log() -> Vec<u8> {
    captured("guard-good-1.eventlog.bin")
}

/// A log of a real machine.
///
/// # Panics
///
/// It is missing.
#[must_use]
pub fn captured(name: &str) -> Vec<u8> {
    let logs = concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/testdata/eventlogs");
    std::fs::read(PathBuf::from(logs).join(name)).unwrap()
}

/// The PCRs that a log explains.
///
/// # Panics
///
/// It can't be read.
#[must_use]
pub fn replayed(log: &[u8]) -> PcrValues {
    EventLog::parse(log).unwrap().replay(HashAlg::Sha256).unwrap()
}

impl Machine {
    /// One that booted as its log says.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&event_log())
    }

    /// One that booted as `log` says.
    #[must_use]
    pub fn of(log: &[u8]) -> Self {
        Self::with(SoftwareTpm::with(replayed(log)), log)
    }

    /// One with this TPM and log, whether they go together or not.
    ///
    /// # Panics
    ///
    /// There is no room for a file.
    #[must_use]
    pub fn with(tpm: SoftwareTpm, log: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, log).unwrap();
        let list = dir.path().join("list");
        let command_line = dir.path().join("cmdline");
        let config = AgentConfig {
            event_log_path: path.clone(),
            ima_log_path: list.clone(),
            command_line_path: command_line.clone(),
            ..AgentConfig::default()
        };
        let tpm = Arc::new(Mutex::new(tpm));
        let shared = Arc::clone(&tpm);
        let open = Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> {
            Ok(Box::new(Shared(Arc::clone(&shared))))
        });
        Self {
            tpm,
            prover: TpmProver::new(config, TrustDomain::parse("example.org").unwrap(), open),
            log: path,
            list,
            command_line,
            _dir: dir,
        }
    }

    /// Its TPM.
    ///
    /// # Panics
    ///
    /// Something went wrong while somebody held it.
    pub fn tpm(&self) -> MutexGuard<'_, SoftwareTpm> {
        self.tpm.lock().unwrap()
    }

    /// Has `ca` issue a certificate to its TPM.
    ///
    /// # Panics
    ///
    /// The endorsement key is none.
    pub fn endorse(&self, ca: &Ca, change: Change) {
        let public = Public::parse(&self.tpm().endorsement_key()).unwrap();
        let PublicKey::Ecc(key) = &public.key else {
            panic!("{public:?}")
        };
        let certificate = ca.endorse(&EkPoint(key.point()), change);
        self.tpm().certificate = Some(certificate);
    }

    /// The hash of its endorsement key.
    ///
    /// # Panics
    ///
    /// It is none.
    #[must_use]
    pub fn ek_hash(&self) -> EkHash {
        EndorsementKey::parse(&self.tpm().endorsement_key())
            .unwrap()
            .hash()
    }

    /// The first message over `wire`.
    ///
    /// # Panics
    ///
    /// The prover can't.
    pub fn begin(&mut self, wire: Wire) -> Vec<u8> {
        self.prover.prepare().unwrap();
        let csr = wire.csr.to_vec();
        let exporter = wire.exporter;
        self.prover.begin(&Binding { exporter, csr }).unwrap()
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// One that knows nobody.
    ///
    /// # Panics
    ///
    /// It can't work with `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            attestor: TpmAttestor::new(config).unwrap(),
            hosts: Vec::new(),
            policies: Vec::new(),
        }
    }

    /// One that has enrolled `machine` by the hash of its endorsement key.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let mut server = Self::new(&Config::default());
        server.enrol("host-1", machine.ek_hash());
        server
    }

    /// Enrols a host by the hash of its endorsement key.
    pub fn enrol(&mut self, id: &str, hash: EkHash) {
        let key = EnrolledEk {
            hash: Some(hash),
            ..EnrolledEk::default()
        };
        self.enrol_key(id, key);
    }

    /// Enrols a host by its endorsement key.
    pub fn enrol_key(&mut self, id: &str, key: EnrolledEk) {
        self.hosts.push(Arc::new(Host {
            endorsement_keys: vec![key],
            revision: 1,
            ..Host::enrolled(id.into(), NOW)
        }));
    }

    /// Notes what an attestation claims, as the registry does.
    ///
    /// # Panics
    ///
    /// The host is not enrolled.
    pub fn note(&mut self, claim: HostClaim, path: &str) {
        let host = self.hosts.iter_mut().find(|host| host.id == claim.id).unwrap();
        let host = Arc::make_mut(host);
        host.attestation_key = Some(claim.attestation_key);
        host.appraised = Some(claim.appraised);
        host.agent_path = Some(path.into());
        host.revision += 1;
    }

    /// Takes the first message of an attestation.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn start(&self, payload: &[u8], wire: Wire) -> Result<Step, Refusal> {
        self.attestor.start(payload, &self.context(wire, 1))
    }

    /// Takes the evidence with which a session opens.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn resume(&self, evidence: &[u8], path: &str, exporter: [u8; 32]) -> Result<HostClaim, Refusal> {
        let wire = Wire { exporter, csr: &[] };
        self.attestor.resume(evidence, path, &self.context(wire, 1))
    }

    /// What is known where a message is decided upon; each step has a nonce of its own.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn context(&self, wire: Wire, step: u8) -> Context<'_> {
        static TRUST_DOMAIN: std::sync::OnceLock<TrustDomain> = std::sync::OnceLock::new();
        Context {
            now: NOW,
            trust_domain: TRUST_DOMAIN.get_or_init(|| TrustDomain::parse("example.org").unwrap()),
            records: self,
            exporter: Some(wire.exporter),
            csr: wire.csr,
            nonce: [step; 32],
        }
    }

    /// A whole attestation; answers with how many messages the agent sent, too.
    ///
    /// # Errors
    ///
    /// It is refused.
    ///
    /// # Panics
    ///
    /// The prover can't.
    pub fn converse(&self, machine: &mut Machine, wire: Wire) -> Result<(Outcome, usize), Refusal> {
        let first = machine.begin(wire);
        let mut step = self.start(&first, wire)?;
        let mut sent = 0_u8;
        loop {
            sent += 1;
            match step {
                Step::Done(attested) => return Ok((Outcome::Attested(attested), sent.into())),
                Step::Newcomer(newcomer) => return Ok((Outcome::Newcomer(*newcomer), sent.into())),
                Step::Challenge { send, next } => {
                    let answer = machine.prover.answer(&send).unwrap();
                    step = next.handle(&answer, &self.context(wire, sent + 1))?;
                }
            }
        }
    }

    /// An attestation that succeeds and is noted; answers with how many messages it took.
    ///
    /// # Panics
    ///
    /// It does not succeed.
    pub fn attest(&mut self, machine: &mut Machine) -> (Attested, usize) {
        match self.converse(machine, WIRE).unwrap() {
            (Outcome::Attested(attested), sent) => {
                self.note(claim(&attested), &path(&attested));
                (attested, sent)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The code of the refusal that an attestation ends in.
    ///
    /// # Panics
    ///
    /// It succeeds.
    pub fn refuses(&self, machine: &mut Machine) -> &'static str {
        self.converse(machine, WIRE).unwrap_err().code
    }
}

/// What an attestation claims of the host.
///
/// # Panics
///
/// It claims something else.
#[must_use]
pub fn claim(attested: &Attested) -> HostClaim {
    match attested.claims.as_slice() {
        [Claim::Host(claim)] => (**claim).clone(),
        other => panic!("{other:?}"),
    }
}

/// The path of the agent's SPIFFE ID.
#[must_use]
pub fn path(attested: &Attested) -> String {
    format!("/spire/agent/tpm/{}", attested.suffix)
}

/// The code of a refusal.
///
/// # Panics
///
/// It is none.
pub fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> &'static str {
    outcome.unwrap_err().code
}

impl Records for Server {
    fn join_token(&self, _token: &str) -> Option<JoinToken> {
        None
    }

    fn host_of_ak(&self, name: &Name) -> Option<Arc<Host>> {
        let has = |host: &&Arc<Host>| {
            host.attestation_key
                .as_ref()
                .is_some_and(|key| key.name() == *name)
        };
        self.hosts.iter().find(has).cloned()
    }

    fn host_of_ek(&self, hash: &EkHash) -> Option<Arc<Host>> {
        self.hosts.iter().find(|host| host.has_ek(hash)).cloned()
    }

    fn host_of_certificate(&self, id: &CertificateId) -> Option<Arc<Host>> {
        let host = self
            .hosts
            .iter()
            .find(|host| host.ek_of_certificate(id).is_some());
        host.cloned()
    }

    fn policies_of(&self, _host: &Host) -> HostPolicies {
        HostPolicies::new(self.policies.clone())
    }
}

/// A TPM that the test holds on to.
struct Shared(Arc<Mutex<SoftwareTpm>>);

impl TpmDevice for Shared {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        self.0.lock().unwrap().identify(trust_domain)
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        self.0.lock().unwrap().quote(extra_data, selection)
    }

    fn activate(&mut self, activation: &Activation) -> Result<zeroize::Zeroizing<Vec<u8>>, TpmError> {
        self.0.lock().unwrap().activate(activation)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        self.0.lock().unwrap().read_pcrs(selection)
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        self.0.lock().unwrap().create_key()
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.0.lock().unwrap().sign(key, message)
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        self.0.lock().unwrap().certify(key, extra_data)
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        self.0.lock().unwrap().seal(key, sealing)
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        self.0.lock().unwrap().unseal(sealed)
    }
}
