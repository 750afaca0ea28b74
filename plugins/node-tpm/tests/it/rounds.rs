//! Rounds of a session: nonce, quote, and the log where something is new.

use std::time::Duration;

use attest::{HashAlg, hello_digest, wire::ClockInfo};
use node_tpm::{Config, EventLogs};
use plugin_api::{Asked, Attested, NodeAttestor, NodeProver, Refusal, Round, SessionBinding};
use prost::Message;
use proto::plastron::attest::v1::{Evidence, Need, Supplied};
use swtpm_tests::parties::{Machine, Server, WIRE, Wire, claim, path};

const OTHER: Wire = Wire {
    exporter: [2; 32],
    csr: b"other",
};

/// A session on the connection where the host attested.
pub(crate) struct Session {
    pub(crate) machine: Machine,
    pub(crate) server: Server,
    pub(crate) binding: SessionBinding,
    pub(crate) path: String,
    /// How many questions were asked.
    asked: u8,
}

impl Session {
    pub(crate) fn open() -> Self {
        let machine = Machine::new();
        let server = Server::of(&machine);
        Self::of(machine, server)
    }

    pub(crate) fn of(mut machine: Machine, mut server: Server) -> Self {
        let (attested, _) = server.attest(&mut machine);
        Self {
            binding: binding(&attested),
            path: path(&attested),
            machine,
            server,
            asked: 0,
        }
    }

    pub(crate) fn ask(&mut self) -> Asked {
        self.asked = self.asked.wrapping_add(1);
        let context = self.server.context(WIRE, self.asked.wrapping_add(100));
        let host = &self.server.hosts[0];
        let asked = self.server.attestor.begin_round(host, &self.binding, &context);
        asked.unwrap()
    }

    pub(crate) fn answer(&mut self, asked: &[u8]) -> Vec<u8> {
        self.machine.prover.answer_round(&WIRE.exporter, asked).unwrap()
    }

    pub(crate) fn hear(&mut self, asked: Asked, answer: &[u8]) -> Result<Round, Refusal> {
        self.asked = self.asked.wrapping_add(1);
        let context = self.server.context(WIRE, self.asked.wrapping_add(100));
        asked.next.handle(answer, &context)
    }

    /// Questions and answers until it is decided; says how many it took.
    pub(crate) fn round(&mut self) -> (Result<Round, Refusal>, usize) {
        let mut asked = self.ask();
        let mut sent = 0;
        loop {
            sent += 1;
            let answer = self.answer(&asked.send);
            match self.hear(asked, &answer) {
                Ok(Round::Ask(more)) => asked = more,
                outcome => return (outcome, sent),
            }
        }
    }

    /// A round that finds nothing new.
    pub(crate) fn goes_on(&mut self) {
        let (outcome, sent) = self.round();
        let Ok(Round::Unchanged(clock)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(sent, 1);
        self.binding.clock = clock;
    }

    /// A round that is refused, as what the host surely said.
    pub(crate) fn is_refused(&mut self, code: &str) -> Refusal {
        let (outcome, _) = self.round();
        surely(outcome, code)
    }
}

fn binding(attested: &Attested) -> SessionBinding {
    let claim = claim(attested);
    SessionBinding {
        exporter: WIRE.exporter,
        hello: claim.hello,
        clock: claim.appraised.standing.clock,
        grown: None,
    }
}

pub(crate) fn surely(outcome: Result<Round, Refusal>, code: &str) -> Refusal {
    let refusal = outcome.unwrap_err();
    assert_eq!((refusal.code, refusal.said_by.as_deref()), (code, Some("host-1")));
    refusal
}

#[test]
fn a_round_in_which_nothing_is_new_takes_one_quote_and_few_bytes() {
    let mut session = Session::open();
    session.machine.tpm().quotes = 0;
    let asked = session.ask();
    let answer = session.answer(&asked.send);
    assert!(
        asked.send.len() + answer.len() <= 600,
        "{} {}",
        asked.send.len(),
        answer.len()
    );
    assert!(matches!(session.hear(asked, &answer), Ok(Round::Unchanged(_))));
    assert_eq!(session.machine.tpm().quotes, 1);
    for _ in 0..3 {
        session.goes_on();
    }
}

#[test]
fn a_session_that_opened_with_evidence_goes_on_with_the_hello_of_that() {
    let mut session = Session::open();
    let evidence = session.machine.prover.resume(&OTHER.exporter).unwrap().unwrap();
    let path = session.path.clone();
    let claim = session.server.resume(&evidence, &path, OTHER.exporter).unwrap();
    let hello = Evidence::decode(evidence.as_slice()).unwrap().hello;
    assert_eq!(claim.hello, hello_digest(&hello));
    // The older session goes on beside it.
    session.goes_on();
}

#[test]
fn a_pcr_that_was_extended_is_named_and_takes_the_host_away() {
    let mut session = Session::open();
    session.goes_on();
    session.machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    let refusal = session.is_refused("log_mismatch");
    assert!(
        refusal.source.to_string().contains("PCR 4 of bank sha256"),
        "{refusal:?}"
    );
}

/// A session of a host that has no log, and need not have one.
fn logless() -> Session {
    let machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    let mut session = Session::of(machine, server);
    session.goes_on();
    session
}

#[test]
fn a_pcr_that_was_extended_is_found_where_there_is_no_log() {
    let mut session = logless();
    session.machine.tpm().values.extend(HashAlg::Sha256, 9, &[1; 32]);
    session.is_refused("pcr_digest");
}

#[test]
fn a_host_without_a_log_gains_nothing_by_quoting_other_pcrs_first() {
    let mut session = logless();
    session.machine.tpm().values.extend(HashAlg::Sha256, 9, &[1; 32]);
    let asked = session.ask();
    let mut need = Need::decode(asked.send.as_slice()).unwrap();
    need.selection[0].pcrs = 0b1;
    let answer = session.answer(&need.encode_to_vec());
    let Ok(Round::Ask(more)) = session.hear(asked, &answer) else {
        panic!("other PCRs were taken")
    };
    let answer = session.answer(&more.send);
    surely(session.hear(more, &answer), "pcr_digest");
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let mut session = Session::open();
    let old = session.ask();
    let answer = session.answer(&old.send);
    session.goes_on();
    let asked = session.ask();
    surely(session.hear(asked, &answer), "extra_data");
}

#[test]
fn what_the_host_said_before_it_was_changed_proves_nothing_after() {
    let mut session = Session::open();
    let asked = session.ask();
    let before = session.answer(&asked.send);
    session.machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    // The nonce tells: the old quote is not over the new one.
    let mut replayed = Supplied::decode(before.as_slice()).unwrap();
    let now = session.ask();
    surely(session.hear(now, &replayed.encode_to_vec()), "extra_data");
    // Neither is a signature of the one good for the statement of the other.
    let now = session.ask();
    let fresh = Supplied::decode(session.answer(&now.send).as_slice()).unwrap();
    replayed.quote.as_mut().unwrap().attest = fresh.quote.unwrap().attest;
    surely(session.hear(now, &replayed.encode_to_vec()), "signature_invalid");
}

#[test]
fn an_answer_over_another_connection_is_refused() {
    let mut session = Session::open();
    session.machine.prover.resume(&OTHER.exporter).unwrap();
    let asked = session.ask();
    let answer = session.machine.prover.answer_round(&OTHER.exporter, &asked.send);
    surely(session.hear(asked, &answer.unwrap()), "extra_data");
}

#[test]
fn an_attestation_does_not_pass_for_an_answer() {
    let mut session = Session::open();
    let asked = session.ask();
    let begun = session.machine.begin(WIRE);
    let evidence = Evidence::decode(begun.as_slice()).unwrap();
    let answer = Supplied {
        quote: evidence.quote,
        logs: Vec::new(),
        ..Supplied::default()
    };
    surely(session.hear(asked, &answer.encode_to_vec()), "extra_data");
}

#[test]
fn what_can_not_be_read_is_nobodys_word() {
    let mut session = Session::open();
    for answer in [&b"\xff"[..], b"", b"\x0a\x00"] {
        let asked = session.ask();
        let refusal = session.hear(asked, answer).unwrap_err();
        assert_eq!(refusal.said_by, None, "{refusal:?}");
    }
}

#[test]
fn another_selection_is_asked_for_and_taken_with_its_log() {
    let machine = Machine::new();
    let mut narrow = Server::new(&Config {
        pcrs: "sha256:0-7".parse().unwrap(),
        ..Config::default()
    });
    narrow.enrol("host-1", machine.ek_hash());
    let mut session = Session::of(machine, narrow);
    session.goes_on();
    // The operator wants more; the log on record does not tell of the new PCRs.
    let hosts = std::mem::take(&mut session.server.hosts);
    session.server = Server::new(&Config::default());
    session.server.hosts = hosts;
    let (outcome, sent) = session.round();
    let Ok(Round::Changed(claim)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(sent, 2);
    session.binding.clock = claim.appraised.standing.clock;
    let path = session.path.clone();
    session.server.note(*claim, &path);
    session.goes_on();
}

#[test]
fn a_quote_of_other_pcrs_than_were_asked_for_does_not_pass() {
    let mut session = Session::open();
    let asked = session.ask();
    assert_eq!(asked.within, Duration::from_secs(10), "for a quote");
    let mut need = Need::decode(asked.send.as_slice()).unwrap();
    need.selection[0].pcrs = 0b1;
    let answer = session.answer(&need.encode_to_vec());
    let Ok(Round::Ask(more)) = session.hear(asked, &answer) else {
        panic!("other PCRs were taken")
    };
    assert_eq!(more.within, Duration::from_secs(60), "for what may bring a log");
    let mut need = Need::decode(more.send.as_slice()).unwrap();
    need.selection[0].pcrs = 0b1;
    let answer = session.answer(&need.encode_to_vec());
    surely(session.hear(more, &answer), "pcr_selection");
}

#[test]
fn a_clock_that_goes_back_tells_of_a_tpm_that_was_cleared() {
    let mut session = Session::open();
    session.goes_on();
    session.machine.tpm().said.clock -= 2;
    session.is_refused("tpm_cleared");

    let mut session = Session::open();
    session.machine.tpm().said.reset_count = 0;
    session.is_refused("tpm_cleared");
    // To attest anew does not help.
    let refusal = session.server.converse(&mut session.machine, OTHER).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("tpm_cleared", Some("host-1"))
    );
}

#[test]
fn over_a_reset_the_clock_may_go_back() {
    let mut session = Session::open();
    {
        let mut tpm = session.machine.tpm();
        tpm.said.reset_count += 1;
        tpm.said.clock = 5;
    }
    let (outcome, sent) = session.round();
    let Ok(Round::Changed(claim)) = outcome else {
        panic!("{outcome:?}")
    };
    let expected = ClockInfo {
        clock: 6,
        reset_count: 8,
        restart_count: 1,
        safe: true,
    };
    assert_eq!((sent, claim.appraised.standing.clock), (1, expected));
}

#[test]
fn connections_may_overtake_each_other_but_not_by_minutes() {
    let mut session = Session::open();
    session.machine.tpm().said.clock -= 100_000;
    let (attested, sent) = session.server.attest(&mut session.machine);
    assert_eq!((sent, attested.can_reattest), (1, true));
    session.machine.tpm().said.clock -= 200_000;
    let refusal = session.server.converse(&mut session.machine, OTHER).unwrap_err();
    assert_eq!(refusal.code, "tpm_cleared");
}

#[test]
fn what_an_enrolled_host_surely_said_at_its_attestation_is_its_word() {
    let mut session = Session::open();
    session.machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    let refusal = session.server.converse(&mut session.machine, OTHER).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("log_mismatch", Some("host-1"))
    );
    // Evidence of another connection is nobody's word.
    let begun = session.machine.begin(WIRE);
    let refusal = session.server.start(&begun, OTHER).unwrap_err();
    assert_eq!((refusal.code, refusal.said_by), ("extra_data", None));
}
