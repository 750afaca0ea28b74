//! Who says what to whom.

use std::sync::Arc;

use attest::policy::{Generation, Generations, Stage as PolicyStage};
use node_tpm::{Config, KernelLists};
use plugin_api::{
    Asked, Attested, Context, Expect, ExpectEvidence, Host as Row, HostClaim, NodeAttestor, Refusal, Round,
    SessionBinding, Step,
};
use svid::{Timestamp, TrustDomain};
use swtpm_tests::{
    parties::{Server, Wire, claim, path},
    structures::Said,
};

use super::{
    Tally,
    host::{Boot, Host, Oddity, Quoted},
    message::{self, Change, Form},
};
use crate::targets::example_org;

const HOSTS: usize = 2;
const CONNECTIONS: usize = 4;
/// How many messages are kept.
const MOST_KEPT: usize = 32;
/// Most questions of a round, and most messages of an attestation, of a host that answers as it should.
const MOST: usize = 12;
const REQUESTS: [&[u8]; CONNECTIONS] = [b"request 0", b"request 1", b"request 2", b"request 3"];
const NOW: Timestamp = Timestamp::from_unix(1_790_000_000);

/// Everything that is there.
pub(super) struct Stage {
    pub(super) server: Server,
    trust_domain: TrustDomain,
    pub(super) hosts: Vec<Host>,
    connections: Vec<Connection>,
    kept: Vec<Kept>,
    /// Every quote that a TPM made.
    pub(super) quotes: Vec<Quoted>,
    /// What TPMs said when they were believed last.
    pub(super) believed: [Option<Said>; HOSTS],
    /// How many random numbers were drawn.
    drawn: u64,
    pub(super) tally: Tally,
}

/// A message that somebody kept.
#[derive(Clone)]
struct Kept {
    form: Form,
    payload: Vec<u8>,
    /// The quote in it.
    quoted: Option<usize>,
}

/// A connection, as the server sees it.
pub(super) struct Connection {
    pub(super) wire: Wire,
    pub(super) hello: [u8; 32],
    has_attested: bool,
    /// The statement of its first message.
    first: Option<Vec<u8>>,
    awaited: Option<Awaited>,
    session: Option<Session>,
}

struct Awaited {
    send: Vec<u8>,
    nonce: [u8; 32],
    next: Box<dyn Expect>,
}

pub(super) struct Session {
    pub(super) host: usize,
    pub(super) binding: SessionBinding,
    /// Another one has taken its place: what it says counts no more.
    pub(super) is_replaced: bool,
    question: Option<Question>,
}

struct Question {
    send: Vec<u8>,
    nonce: [u8; 32],
    row: Arc<Row>,
    next: Box<dyn ExpectEvidence>,
}

/// What the server was told, and about what that has to be.
pub(super) struct Told {
    pub(super) form: Form,
    pub(super) payload: Vec<u8>,
    /// What was kept, if it is delivered as it was.
    pub(super) original: Option<usize>,
    pub(super) connection: usize,
    pub(super) nonce: [u8; 32],
}

impl Stage {
    pub(super) fn new() -> Self {
        let hosts: Vec<_> = (0..HOSTS).map(Host::new).collect();
        let mut server = Server::new(&Config {
            ima: KernelLists::Optional,
            ..Config::default()
        });
        for (index, host) in hosts.iter().enumerate() {
            server.enrol(&row_id(index), host.machine.ek_hash());
        }
        let mut stage = Self {
            server,
            trust_domain: example_org(),
            hosts,
            connections: Vec::new(),
            kept: Vec::new(),
            quotes: Vec::new(),
            believed: [None; HOSTS],
            drawn: 0,
            tally: Tally::default(),
        };
        stage.connections = (0..CONNECTIONS).map(|index| stage.dial(index)).collect();
        stage
    }

    /// Plays one step.
    pub(super) fn play(&mut self, [what, a, b, c]: [u8; 4]) {
        let (host, connection) = (usize::from(a) % HOSTS, usize::from(b) % CONNECTIONS);
        let to = usize::from(a) % CONNECTIONS;
        match what % 24 {
            0 => self.connections[to] = self.dial(to),
            1 => self.begin(host, connection),
            2 => self.start(to, usize::from(b), c),
            3 => self.answer(host, connection),
            4 => self.hand(to, usize::from(b), c),
            5 => self.resume(host, connection),
            6 => self.open(to, usize::from(b), c),
            7 => self.ask(to),
            8 => self.reply(host, connection),
            9 => self.hear(to, usize::from(b), c),
            10..13 => self.attest(host, connection),
            13..15 => {
                self.work(to, b, c);
                self.round(to);
            }
            15 => (0..=c % 3).for_each(|_| self.hosts[host].measure(b, false)),
            16 if c % 3 == 0 => self.hosts[host].extend(b % 16),
            16 => self.round(to),
            17 => self.hosts[host].boot(),
            18 if c % 4 == 0 => self.be_odd(host, b),
            18 => self.attest(host, connection),
            19 => self.hold(b),
            20 => self.hosts[host].show_log(connection % HOSTS),
            21 if c % 8 == 0 => self.hosts[host].hide_list(),
            21 => {
                self.hosts[host].show_list(if b < 128 { usize::MAX } else { usize::from(b % 8) });
                self.hosts[host].look_again();
            }
            22 => self.hosts[host].measure(b, true),
            _ => self.reconnect(host, connection),
        }
    }

    /// The host of a session runs programs, or none.
    fn work(&mut self, of: usize, name: u8, programs: u8) {
        let host = self.connections[of].session.as_ref().map(|session| session.host);
        if let Some(host) = host {
            (0..programs % 3).for_each(|more| self.hosts[host].measure(name.wrapping_add(more), false));
        }
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut drawn = [0xd0; 32];
        drawn[..8].copy_from_slice(&self.drawn.to_be_bytes());
        drawn
    }

    fn dial(&mut self, index: usize) -> Connection {
        Connection {
            wire: Wire {
                exporter: self.draw(),
                csr: REQUESTS[index],
            },
            hello: [0; 32],
            has_attested: false,
            first: None,
            awaited: None,
            session: None,
        }
    }

    fn be_odd(&mut self, host: usize, how: u8) {
        self.hosts[host].be_odd(match how % 8 {
            0 => Oddity::ClockBack,
            1 => Oddity::Cleared,
            2 => Oddity::OlderFirmware,
            3 => Oddity::Slept,
            _ => Oddity::ClockOn,
        });
    }

    /// What hosts are held to from now on.
    fn hold(&mut self, to: u8) {
        let of = |index: usize, stage: PolicyStage| {
            let generation = Generation::new(Boot::of(index).golden.clone(), stage);
            Arc::new(Generations::new(vec![generation]).unwrap())
        };
        self.server.policies = match to % 6 {
            0 => vec![of(0, PolicyStage::Staged)],
            1 => vec![of(0, PolicyStage::Enforced)],
            2 => vec![of(1, PolicyStage::Enforced)],
            3 => vec![of(0, PolicyStage::Staged), of(1, PolicyStage::Enforced)],
            _ => Vec::new(),
        };
    }

    fn keep(&mut self, form: Form, payload: Vec<u8>, quoted: Option<Quoted>) {
        let quoted = quoted.map(|quoted| {
            self.quotes.push(quoted);
            self.quotes.len() - 1
        });
        self.kept.push(Kept {
            form,
            payload,
            quoted,
        });
        if self.kept.len() > MOST_KEPT {
            self.kept.remove(0);
        }
    }

    fn begin(&mut self, host: usize, connection: usize) {
        let wire = self.connections[connection].wire;
        if let Some((payload, quoted)) = self.hosts[host].begin(wire) {
            self.keep(Form::Evidence, payload, Some(quoted));
        }
    }

    fn resume(&mut self, host: usize, connection: usize) {
        let exporter = self.connections[connection].wire.exporter;
        if let Some((payload, quoted)) = self.hosts[host].resume(exporter) {
            self.keep(Form::Evidence, payload, Some(quoted));
        }
    }

    /// The host answers what is asked on a connection, whether it is asked there or not.
    fn answer(&mut self, host: usize, connection: usize) {
        let Some(awaited) = &self.connections[connection].awaited else {
            return;
        };
        if let Some((payload, quoted)) = self.hosts[host].answer(&awaited.send) {
            self.keep(Form::Answer, payload, quoted);
        }
    }

    fn reply(&mut self, host: usize, connection: usize) {
        let Connection { wire, session, .. } = &self.connections[connection];
        let Some(question) = session.as_ref().and_then(|session| session.question.as_ref()) else {
            return;
        };
        let replied = self.hosts[host].answer_round(wire.exporter, &question.send);
        if let Some((payload, quoted)) = replied {
            self.keep(Form::Supplied, payload, Some(quoted));
        }
    }

    /// A message that was kept, the last one first, as it is delivered.
    fn told(&self, form: Form, back: usize, how: u8, connection: usize, nonce: [u8; 32]) -> Option<Told> {
        let last = self.kept.len().checked_sub(1)?;
        let said = &self.kept[last - back % self.kept.len()];
        let change = Change {
            how,
            by: u8::try_from(back).unwrap_or_default(),
        };
        let other = &self.kept[usize::from(how / 16) % self.kept.len()];
        let payload = change.of(said.form, &said.payload, &other.payload);
        let original = said
            .quoted
            .filter(|_| payload == said.payload && form == said.form);
        Some(Told {
            form,
            payload,
            original,
            connection,
            nonce,
        })
    }

    fn decide<T>(&mut self, wire: Wire, decide: impl FnOnce(&Server, &Context<'_>) -> T) -> (T, [u8; 32]) {
        let nonce = self.draw();
        let context = Context {
            now: NOW,
            trust_domain: &self.trust_domain,
            records: &self.server,
            exporter: Some(wire.exporter),
            csr: wire.csr,
            nonce,
        };
        (decide(&self.server, &context), nonce)
    }

    /// A first message of AttestAgent: one a connection.
    fn start(&mut self, to: usize, back: usize, how: u8) {
        let connection = &self.connections[to];
        if connection.has_attested || connection.session.is_some() {
            return;
        }
        let Some(told) = self.told(Form::Evidence, back, how, to, [0; 32]) else {
            return;
        };
        let connection = &mut self.connections[to];
        connection.has_attested = true;
        connection.first = message::statement(Form::Evidence, &told.payload);
        connection.hello = model_hello(&told.payload);
        let wire = connection.wire;
        let (step, nonce) = self.decide(wire, |server, context| {
            server.attestor.start(&told.payload, context)
        });
        self.step(&told, step, nonce);
    }

    fn hand(&mut self, to: usize, back: usize, how: u8) {
        let Some(awaited) = self.connections[to].awaited.take() else {
            return;
        };
        let Some(told) = self.told(Form::Answer, back, how, to, awaited.nonce) else {
            return;
        };
        let wire = self.connections[to].wire;
        let (step, nonce) = self.decide(wire, |_, context| awaited.next.handle(&told.payload, context));
        self.step(&told, step, nonce);
    }

    fn step(&mut self, told: &Told, step: Result<Step, Refusal>, nonce: [u8; 32]) {
        let first = self.connections[told.connection].first.clone();
        match step {
            Ok(Step::Challenge { send, next }) => {
                self.connections[told.connection].awaited = Some(Awaited { send, nonce, next });
            }
            Ok(Step::Done(attested)) => self.done(told, first.as_deref(), &attested),
            Ok(Step::Newcomer(newcomer)) => panic!("both hosts are enrolled: {newcomer:?}"),
            Err(refusal) => self.check_refusal(told, first.as_deref(), None, &refusal),
        }
    }

    fn done(&mut self, told: &Told, first: Option<&[u8]>, attested: &Attested) {
        let claim = claim(attested);
        self.check_claim(told, first, &claim);
        let path = path(attested);
        self.follow(told.connection, claim, &path);
    }

    /// Evidence with which a session opens, where the connection presents the SVID of a host.
    fn open(&mut self, to: usize, back: usize, how: u8) {
        let connection = &self.connections[to];
        if connection.has_attested || connection.session.is_some() {
            return;
        }
        let presented = usize::from(how / 128) % HOSTS;
        let Some(path) = self.server.hosts[presented].agent_path.clone() else {
            return;
        };
        let Some(told) = self.told(Form::Evidence, back, how % 128, to, [0; 32]) else {
            return;
        };
        let connection = &mut self.connections[to];
        connection.has_attested = true;
        connection.hello = model_hello(&told.payload);
        connection.wire.csr = &[];
        let wire = connection.wire;
        let (opened, _) = self.decide(wire, |server, context| {
            server.attestor.resume(&told.payload, &path, context)
        });
        match opened {
            Ok(claim) => {
                assert_eq!(*claim.id, *row_id(presented), "the SVID is another host's");
                self.check_claim(&told, None, &claim);
                self.follow(to, claim, &path);
            }
            Err(refusal) => self.check_refusal(&told, None, None, &refusal),
        }
    }

    /// A host proved itself on a connection: that is where it is now.
    fn follow(&mut self, connection: usize, claim: HostClaim, path: &str) {
        let host = row_index(&claim.id);
        let binding = SessionBinding {
            exporter: self.connections[connection].wire.exporter,
            hello: claim.hello,
            clock: claim.appraised.standing.clock,
            grown: None,
        };
        if !self.note(claim, path) {
            return;
        }
        for other in self
            .connections
            .iter_mut()
            .filter_map(|other| other.session.as_mut())
        {
            other.is_replaced |= other.host == host;
        }
        self.connections[connection].session = Some(Session {
            host,
            binding,
            is_replaced: false,
            question: None,
        });
    }

    /// As the registry does: a claim counts if the row is as it was.
    fn note(&mut self, claim: HostClaim, path: &str) -> bool {
        let host = row_index(&claim.id);
        if self.server.hosts[host].revision != claim.revision {
            return false;
        }
        self.believed[host] = Some(said_of(&claim));
        self.server.note(claim, path);
        true
    }

    /// The server asks in a session.
    fn ask(&mut self, of: usize) {
        let Some(session) = &self.connections[of].session else {
            return;
        };
        let (row, binding) = (
            Arc::clone(&self.server.hosts[session.host]),
            session.binding.clone(),
        );
        let wire = self.session_wire(of);
        let (asked, nonce) = self.decide(wire, |server, context| {
            server.attestor.begin_round(&row, &binding, context)
        });
        let question = asked.map(|asked| question(asked, nonce, row));
        self.connections[of].session.as_mut().unwrap().question = question;
    }

    fn session_wire(&self, of: usize) -> Wire {
        Wire {
            csr: &[],
            ..self.connections[of].wire
        }
    }

    fn hear(&mut self, to: usize, back: usize, how: u8) {
        let Some(question) = self.connections[to]
            .session
            .as_mut()
            .and_then(|session| session.question.take())
        else {
            return;
        };
        let Some(told) = self.told(Form::Supplied, back, how, to, question.nonce) else {
            return;
        };
        let wire = self.session_wire(to);
        let (round, nonce) = self.decide(wire, |_, context| question.next.handle(&told.payload, context));
        let session = self.connections[to].session.take().unwrap();
        self.connections[to].session = self.heard(&told, session, question.row, round, nonce);
    }

    /// What becomes of a session.
    fn heard(
        &mut self,
        told: &Told,
        mut session: Session,
        row: Arc<Row>,
        round: Result<Round, Refusal>,
        nonce: [u8; 32],
    ) -> Option<Session> {
        match round {
            Ok(Round::Ask(asked)) => session.question = Some(question(asked, nonce, row)),
            Ok(Round::Changed(claim)) => {
                self.check_claim(told, None, &claim);
                session.binding.clock = claim.appraised.standing.clock;
                let path = row.agent_path.clone().unwrap();
                if !session.is_replaced {
                    self.note(*claim, &path);
                }
            }
            Ok(Round::Grown(clock, grown)) => {
                self.check_grown(told, &row, &clock, &grown);
                session.binding.clock = clock;
                session.binding.grown = Some(*grown);
            }
            Ok(Round::Unchanged(clock)) => {
                self.check_unchanged(told, &row, &session.binding, &clock);
                session.binding.clock = clock;
            }
            Err(refusal) => {
                self.check_refusal(told, None, Some(&session), &refusal);
                return None;
            }
        }
        Some(session)
    }

    /// A host attests on a new connection, as its agent does.
    fn attest(&mut self, host: usize, connection: usize) {
        self.connections[connection] = self.dial(connection);
        let is_good = self.is_good(host);
        let quotes = self.quotes.len();
        self.begin(host, connection);
        if self.quotes.len() == quotes {
            return;
        }
        self.start(connection, 0, 0);
        for _ in 0..MOST {
            if self.connections[connection].awaited.is_none() {
                break;
            }
            self.answer(host, connection);
            self.hand(connection, 0, 0);
        }
        let session = self.connections[connection].session.as_ref();
        let is_believed = session.is_some_and(|session| session.host == host);
        assert!(is_believed || !is_good, "a host that is as it booted is refused");
    }

    /// A round of a session, as its host's agent answers it.
    fn round(&mut self, of: usize) {
        let Some(host) = self.connections[of].session.as_ref().map(|session| session.host) else {
            return;
        };
        let is_replaced = self.connections[of]
            .session
            .as_ref()
            .is_some_and(|session| session.is_replaced);
        let is_good = self.is_good(host) && !is_replaced;
        self.ask(of);
        for _ in 0..MOST {
            let has_question = |session: &Session| session.question.is_some();
            if !self.connections[of].session.as_ref().is_some_and(has_question) {
                break;
            }
            let quotes = self.quotes.len();
            self.reply(host, of);
            if self.quotes.len() == quotes {
                // Its prover remembers the connection no more.
                return;
            }
            self.hear(of, 0, 0);
        }
        let goes_on = self.connections[of].session.is_some();
        assert!(
            goes_on || !is_good,
            "a host that is as it booted is refused in its session"
        );
    }

    /// A host comes back with its SVID.
    fn reconnect(&mut self, host: usize, connection: usize) {
        self.connections[connection] = self.dial(connection);
        let quotes = self.quotes.len();
        self.resume(host, connection);
        if self.quotes.len() > quotes {
            let presented = if host == 0 { 0 } else { 128 };
            self.open(connection, 0, presented);
        }
    }
}

fn question(asked: Asked, nonce: [u8; 32], row: Arc<Row>) -> Question {
    Question {
        send: asked.send,
        nonce,
        row,
        next: asked.next,
    }
}

/// What the TPM said when a claim was made.
fn said_of(claim: &HostClaim) -> Said {
    let standing = &claim.appraised.standing;
    Said {
        clock: standing.clock.clock,
        reset_count: standing.clock.reset_count,
        restart_count: standing.clock.restart_count,
        firmware_version: standing.firmware_version,
    }
}

fn model_hello(payload: &[u8]) -> [u8; 32] {
    message::hello(payload).map_or([0; 32], |hello| attest::hello_digest(&hello))
}

pub(super) fn row_id(index: usize) -> String {
    format!("host-{index}")
}

pub(super) fn row_index(id: &str) -> usize {
    (0..HOSTS).find(|index| row_id(*index) == id).unwrap()
}

impl Stage {
    pub(super) fn connection(&self, index: usize) -> &Connection {
        &self.connections[index]
    }
}
