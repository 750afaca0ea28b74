//! Keys of SVIDs that are in the TPM, and what passes for one.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use attest::{EvidenceKind, HashAlg, PcrSelection, PcrValues, hello_digest};
use node_tpm::{AgentConfig, Config, SvidKey, TpmProver};
use plugin_api::{
    Activation, Attested, HostKey, NodeProver, RawCertification, RawQuote, Refusal, RefusalKind, Sealed,
    SealedKey, Sealing, Step, SvidKeyPlace, TpmDevice, TpmError, TpmIdentity, TpmKey,
};
use prost::Message;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};
use rcgen::{CertificateParams, PublicKeyData, SigningKey};
use svid::TrustDomain;
use swtpm_tests::{
    SoftwareTpm,
    parties::{Machine, Server, WIRE, Wire, claim, code, path},
    structures::Statement,
};
use zeroize::Zeroizing;

/// Signs a request with a key that the machine keeps.
struct Requester<'a> {
    prover: RefCell<&'a mut TpmProver>,
    key: &'a HostKey,
}

impl PublicKeyData for Requester<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_key.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key.public_key.algorithm()
    }
}

impl SigningKey for Requester<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.prover.borrow_mut().sign(self.key, message).unwrap())
    }
}

fn create_key(machine: &mut Machine) -> HostKey {
    machine.prover.prepare().unwrap();
    machine.prover.create_svid_key().unwrap().unwrap()
}

/// A connection on which an SVID is asked for with this key.
fn asking_for(machine: &mut Machine, key: &HostKey) -> Wire {
    let prover = RefCell::new(&mut machine.prover);
    let requester = Requester { prover, key };
    let request = CertificateParams::default()
        .serialize_request(&requester)
        .unwrap();
    Wire {
        csr: request.der().to_vec().leak(),
        ..WIRE
    }
}

/// A host that a server knows, and a connection on which it asks with a key in its TPM.
fn acquainted(config: &Config) -> (Machine, Server, HostKey, Wire) {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    server.attestor = Server::new(config).attestor;
    let key = create_key(&mut machine);
    let wire = asking_for(&mut machine, &key);
    (machine, server, key, wire)
}

/// The same, by the settings that a server begins with.
pub(crate) fn acquainted_with_key() -> (Machine, Server, Wire) {
    let (machine, server, _, wire) = acquainted(&Config::default());
    (machine, server, wire)
}

/// A first message with its certification changed.
fn changed(payload: &[u8], change: impl FnOnce(&mut wire::Certification)) -> Vec<u8> {
    let mut evidence = wire::Evidence::decode(payload).unwrap();
    change(evidence.certification.as_mut().unwrap());
    evidence.encode_to_vec()
}

/// What the TPM says of `key`, for the message that `payload` is.
fn certify(machine: &Machine, key: &HostKey, wire: Wire, payload: &[u8]) -> wire::Certification {
    let evidence = wire::Evidence::decode(payload).unwrap();
    let binding = attest::Binding {
        kind: EvidenceKind::Certify,
        exporter: &wire.exporter,
        nonce: &[0; 32],
        csr: wire.csr,
        hello: &hello_digest(&evidence.hello),
    };
    let certified = machine
        .tpm()
        .certify(&key.tpm_key, &binding.extra_data())
        .unwrap();
    wire::Certification {
        public: key.tpm_key.public.clone().into(),
        attest: certified.attest.into(),
        signature: certified.signature.into(),
    }
}

fn place(outcome: Result<Step, Refusal>) -> SvidKeyPlace {
    match outcome.unwrap() {
        Step::Done(attested) => claim(&attested).svid_key.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn shows_tpm(attested: &Attested) -> bool {
    attested.selectors.iter().any(|value| value == "svid_key:tpm")
}

#[test]
fn a_key_in_the_tpm_is_noted_and_one_in_memory_is_not() {
    let (mut machine, mut server, _, wire) = acquainted(&Config::default());
    machine.tpm().quotes = 0;
    let evidence = machine.begin(wire);
    assert_eq!(machine.tpm().quotes, 1);
    match server.start(&evidence, wire).unwrap() {
        Step::Done(attested) => {
            assert!(shows_tpm(&attested));
            assert_eq!(claim(&attested).svid_key, Some(SvidKeyPlace::Tpm));
        }
        other => panic!("{other:?}"),
    }
    let (attested, _) = server.attest(&mut machine);
    assert!(!shows_tpm(&attested));
    assert_eq!(claim(&attested).svid_key, Some(SvidKeyPlace::Unproven));
}

#[test]
fn a_host_that_is_new_asks_with_a_key_in_its_tpm() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let key = create_key(&mut machine);
    let wire = asking_for(&mut machine, &key);
    let (outcome, sent) = server.converse(&mut machine, wire).unwrap();
    let swtpm_tests::parties::Outcome::Attested(attested) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((sent, claim(&attested).svid_key), (3, Some(SvidKeyPlace::Tpm)));
}

#[test]
fn another_key_than_that_of_the_request_is_refused() {
    let (mut machine, server, _, wire) = acquainted(&Config::default());
    let other = create_key(&mut machine);
    // The request is for the first key, and nothing is said of the second by itself.
    let evidence = machine.begin(wire);
    assert_eq!(place(server.start(&evidence, wire)), SvidKeyPlace::Unproven);

    let mut passed_off = wire::Evidence::decode(&*evidence).unwrap();
    passed_off.certification = Some(certify(&machine, &other, wire, &evidence).into());
    let refused = server.start(&passed_off.encode_to_vec(), wire);
    assert_eq!(code(refused), "certified_name");
}

#[test]
fn the_word_for_another_key_is_refused() {
    let (mut machine, server, _, wire) = acquainted(&Config::default());
    let evidence = machine.begin(wire);
    let other = create_key(&mut machine);
    let about_other = certify(&machine, &other, wire, &evidence);
    let mixed = changed(&evidence, |certification| {
        certification.attest = about_other.attest;
        certification.signature = about_other.signature;
    });
    assert_eq!(code(server.start(&mixed, wire)), "certified_name");
}

/// Restricted, for decryption, not for signing, or such as software could hold.
#[test]
fn a_key_of_other_attributes_is_refused() {
    for bit in [1, 4, 5, 16, 17, 18] {
        let (mut machine, server, key, wire) = acquainted(&Config::default());
        let evidence = machine.begin(wire);
        let mut area = machine.tpm().keys.last().unwrap().1.clone();
        area.attributes ^= 1 << bit;
        let public = area.marshal();
        machine.tpm().keys.last_mut().unwrap().1 = area;
        let certified = certify(&machine, &key, wire, &evidence);
        let evidence = changed(&evidence, |certification| {
            *certification = wire::Certification {
                public: public.into(),
                ..certified
            };
        });
        assert_eq!(
            code(server.start(&evidence, wire)),
            "certified_attributes",
            "{bit}"
        );
    }
}

#[test]
fn the_certification_of_another_connection_is_refused() {
    let (mut machine, server, key, wire) = acquainted(&Config::default());
    let earlier = Wire {
        exporter: [2; 32],
        ..wire
    };
    let evidence = machine.begin(wire);
    let before = certify(&machine, &key, earlier, &evidence);
    let replayed = changed(&evidence, |certification| *certification = before);
    assert_eq!(code(server.start(&replayed, wire)), "extra_data");
}

#[test]
fn what_is_no_certification_is_refused() {
    let check = |alter: fn(&mut Statement), expected| {
        let (mut machine, server, key, wire) = acquainted(&Config::default());
        let evidence = machine.begin(wire);
        machine.tpm().alter = alter;
        let altered = certify(&machine, &key, wire, &evidence);
        let evidence = changed(&evidence, |certification| *certification = altered);
        assert_eq!(code(server.start(&evidence, wire)), expected);
    };
    check(|statement| statement.magic = 1, "attest_magic");
    check(|statement| statement.extra_data = vec![0; 32], "extra_data");
    check(|statement| statement.signer = vec![0, 11, 1], "qualified_signer");
    let (mut machine, server, _, wire) = acquainted(&Config::default());
    let evidence = machine.begin(wire);
    let quote = wire::Evidence::decode(&*evidence).unwrap().quote.unwrap();
    let quoted = changed(&evidence, |certification| {
        certification.attest = quote.attest;
        certification.signature = quote.signature;
    });
    assert_eq!(code(server.start(&quoted, wire)), "attest_type");
    let garbage = changed(&evidence, |certification| {
        certification.public = Bytes::from_static(b"key");
    });
    assert_eq!(code(server.start(&garbage, wire)), "malformed");
}

#[test]
fn where_the_key_has_to_be_in_the_tpm_none_other_is_certified() {
    let config = Config {
        require_tpm_svid_key: true,
        ..Config::default()
    };
    let (mut machine, server, _, wire) = acquainted(&config);
    let evidence = machine.begin(wire);
    assert_eq!(place(server.start(&evidence, wire)), SvidKeyPlace::Tpm);
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    let expected = ("certification_missing", RefusalKind::Denied, None);
    assert_eq!((refusal.code, refusal.kind, refusal.said_by), expected);
    // Before anything is asked of a host that is new, it is known to be one.
    let mut stranger = Machine::new();
    let mut server = Server::new(&config);
    server.enrol("host-1", stranger.ek_hash());
    assert_eq!(server.refuses(&mut stranger), "certification_missing");
}

/// A host gets away with nothing by saying something else wrong as well.
#[test]
fn a_key_that_does_not_count_hides_no_bad_boot() {
    let config = Config {
        require_tpm_svid_key: true,
        ..Config::default()
    };
    let (mut machine, server, key, wire) = acquainted(&config);
    machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    let earlier = Wire {
        exporter: [2; 32],
        ..wire
    };
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("log_mismatch", Some("host-1"))
    );
    let evidence = machine.begin(wire);
    let before = certify(&machine, &key, earlier, &evidence);
    let replayed = changed(&evidence, |certification| *certification = before);
    let step = server.start(&replayed, wire);
    assert!(
        matches!(step, Ok(Step::Challenge { .. })),
        "what booted comes first"
    );
}

/// What was given before it was required is of no more use.
#[test]
fn where_the_key_has_to_be_in_the_tpm_no_other_opens_a_session() {
    let config = Config {
        require_tpm_svid_key: true,
        ..Config::default()
    };
    let (mut machine, mut server, ..) = acquainted(&Config::default());
    let (attested, _) = server.attest(&mut machine);
    let path = path(&attested);
    for (required, place, expected) in [
        (false, SvidKeyPlace::Unproven, None),
        (true, SvidKeyPlace::Unproven, Some("certification_missing")),
        (true, SvidKeyPlace::Tpm, None),
    ] {
        if required {
            server.attestor = Server::new(&config).attestor;
        }
        let host = Arc::make_mut(&mut server.hosts[0]);
        host.svid_key = Some(place);
        let session = machine.prover.resume(&WIRE.exporter).unwrap().unwrap();
        let outcome = server.resume(&session, &path, WIRE.exporter);
        assert_eq!(outcome.err().map(|refusal| refusal.code), expected, "{place:?}");
    }
}

#[test]
fn a_session_certifies_no_key() {
    let (mut machine, mut server, key, wire) = acquainted(&Config::default());
    let (attested, _) = server.attest(&mut machine);
    let session = machine.prover.resume(&WIRE.exporter).unwrap().unwrap();
    let mut evidence = wire::Evidence::decode(&*session).unwrap();
    assert_eq!(evidence.certification, None);
    evidence.certification = Some(certify(&machine, &key, wire, &session).into());
    let refused = server.resume(&evidence.encode_to_vec(), &path(&attested), WIRE.exporter);
    assert_eq!(code(refused), "unexpected_message");
}

/// One bit may make the certification a field that nobody knows: then the key is not known to be in the TPM.
#[test]
fn no_flipped_bit_passes_another_certification_off() {
    let (mut machine, server, _, wire) = acquainted(&Config::default());
    let evidence = machine.begin(wire);
    for at in 0..evidence.len() {
        let mut flipped = evidence.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(Step::Done(attested)) = server.start(&flipped, wire) {
            assert_eq!(
                claim(&attested).svid_key,
                Some(SvidKeyPlace::Unproven),
                "byte {at}"
            );
        }
    }
}

#[test]
fn each_key_is_another_and_is_certified_once() {
    let (mut machine, _, key, wire) = acquainted(&Config::default());
    let certified = |payload: &[u8]| wire::Evidence::decode(payload).unwrap().certification.is_some();
    assert!(certified(&machine.begin(wire)));
    assert!(!certified(&machine.begin(wire)));
    assert_ne!(create_key(&mut machine).public_key, key.public_key);
}

#[test]
fn an_agent_that_is_to_keep_its_key_in_memory_makes_none_in_the_tpm() {
    let key = |svid_key| {
        let config = AgentConfig {
            event_log_path: "/no/log".into(),
            svid_key,
            ..AgentConfig::default()
        };
        let open = || -> Result<Box<dyn TpmDevice>, TpmError> { Ok(Box::new(SoftwareTpm::default())) };
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let mut prover = TpmProver::new(config, trust_domain, Box::new(open));
        prover.create_svid_key().unwrap()
    };
    assert!(key(SvidKey::Memory).is_none());
    assert!(key(SvidKey::Tpm).is_some());
    assert!(key(SvidKey::Auto).is_some(), "this TPM is fast");
}

/// A TPM that makes keys only as long as it has room, and may be slow.
struct Moody {
    tpm: SoftwareTpm,
    is_full: Arc<AtomicBool>,
    is_slow: Arc<AtomicBool>,
}

/// How long a slow TPM takes to sign: longer than is fast enough.
const SLOW: Duration = Duration::from_millis(110);

impl TpmDevice for Moody {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        self.tpm.identify(trust_domain)
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        self.tpm.quote(extra_data, selection)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        self.tpm.read_pcrs(selection)
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.tpm.activate(activation)
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(TpmError::NoMemory);
        }
        self.tpm.create_key()
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        if self.is_slow.load(Ordering::Relaxed) {
            std::thread::sleep(SLOW);
        }
        self.tpm.sign(key, message)
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        self.tpm.certify(key, extra_data)
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        self.tpm.seal(key, sealing)
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        self.tpm.unseal(sealed)
    }
}

/// A prover of a moody TPM, and what makes that full and slow.
fn moody(svid_key: SvidKey) -> (TpmProver, [Arc<AtomicBool>; 2]) {
    let [is_full, is_slow] = [(); 2].map(|()| Arc::<AtomicBool>::default());
    let moods = [Arc::clone(&is_full), Arc::clone(&is_slow)];
    let config = AgentConfig {
        event_log_path: "/no/log".into(),
        svid_key,
        ..AgentConfig::default()
    };
    let open = move || -> Result<Box<dyn TpmDevice>, TpmError> {
        Ok(Box::new(Moody {
            tpm: SoftwareTpm::default(),
            is_full: Arc::clone(&is_full),
            is_slow: Arc::clone(&is_slow),
        }))
    };
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    (TpmProver::new(config, trust_domain, Box::new(open)), moods)
}

#[test]
fn an_agent_that_may_choose_falls_back_to_memory_and_comes_back() {
    let makes = |svid_key| {
        let (mut prover, [is_full, _]) = moody(svid_key);
        [false, true, false].map(|full| {
            is_full.store(full, Ordering::Relaxed);
            prover.create_svid_key().map(|key| key.is_some()).ok()
        })
    };
    assert_eq!(makes(SvidKey::Auto), [Some(true), Some(false), Some(true)]);
    assert_eq!(makes(SvidKey::Tpm), [Some(true), None, Some(true)]);
}

#[test]
fn whether_the_tpm_is_fast_is_measured_once_and_again_after_a_refusal() {
    let (mut prover, [_, is_slow]) = moody(SvidKey::Auto);
    let mut is_made = |slow, is_refused| {
        is_slow.store(slow, Ordering::Relaxed);
        if is_refused {
            prover.refused();
        }
        prover.create_svid_key().unwrap().is_some()
    };
    assert!(!is_made(true, false));
    assert!(!is_made(false, false), "it was slow when it was measured");
    assert!(is_made(false, true), "a slow moment does not decide for good");
    assert!(is_made(true, false), "it was fast when it was measured");
    assert!(!is_made(true, true));
}
