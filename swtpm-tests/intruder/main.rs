//! A program that took the agent's place on a host. It proves the host as the agent does; once the host is changed, it
//! lies, keeps what it has open, and goes on asking for all that an agent may ask for.
//!
//! `intruder LIE ADDRESS PORT`. It has a host without workloads to itself, and says what comes of what it does.

mod calls;
mod kept;
mod liar;

use std::{env, fmt::Display};

use agent::{
    attest::{AttestError, Prover, attest},
    link::{Address, Link},
    session::{Session, SessionEvent},
    svid_key::KeyRequest,
};
use edge::{Clock, tls::Expected};
use proto::plastron::agent::v1::{Answer, Question};
use svid::{SpiffeId, TrustDomain};

use kept::Kept;
use liar::{Lie, Pcr};

/// An intruder in a session.
struct Intruder {
    lie: Lie,
    pcr: Pcr,
    prover: Prover,
    link: Link,
    session: Session,
    entry_id: String,
    /// Begun while the host was good.
    kept: Option<Kept>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    let [lie, host, port] = words.as_slice() else {
        panic!("intruder LIE ADDRESS PORT");
    };
    let address = Address {
        host: host.clone(),
        port: port.parse().unwrap(),
    };
    let mut intruder = Intruder::enter(Lie::parse(lie), &address).await;
    intruder.stay().await;
    intruder.come_back(&address).await;
    say("it is over");
}

impl Intruder {
    /// Proves the host, and opens a session.
    async fn enter(lie: Lie, address: &Address) -> Self {
        let pcr = Pcr::watch();
        let prover = liar::prover(lie, &pcr);
        let mut link = dial(address).await;
        prove(&mut link, &prover).await.unwrap();
        let opening = Session::open(link.client.clone(), trust_domain(), Vec::new(), None);
        let (session, _) = link.during(opening).await.unwrap().unwrap();
        let entry_id = link.during(calls::entry(link.client.clone())).await.unwrap();
        Self {
            lie,
            pcr,
            prover,
            link,
            session,
            entry_id,
            kept: None,
        }
    }

    /// Goes on until the session is over.
    async fn stay(&mut self) {
        loop {
            match self.link.during(self.session.next()).await.unwrap() {
                Ok(SessionEvent::Asked(question)) => self.asked(question).await,
                Ok(SessionEvent::Pushed { revision, .. }) => {
                    self.session.acknowledge(revision).await.unwrap();
                }
                Ok(SessionEvent::Withdrawn { code }) => {
                    say(format!("withdrawn: {code}"));
                    self.call().await;
                }
                Err(error) => return say(format!("session over: {error}")),
            }
        }
    }

    async fn asked(&mut self, question: Question) {
        let is_changed = self.pcr.is_changed();
        if !is_changed || self.lie != Lie::Silence {
            let answering = self.prover.answer(self.link.exporter, question.need);
            let evidence = answering.await.unwrap();
            let round = question.round;
            self.session.answer(Answer { round, evidence }).await.unwrap();
        }
        if !is_changed {
            let beginning = Kept::begin(self.link.client.clone());
            self.kept = self.link.during(beginning).await.unwrap().ok();
        }
        self.call().await;
    }

    /// Asks for all that an agent may ask for. What it kept is for when nothing else is left.
    async fn call(&mut self) {
        let calling = calls::all(self.link.client.clone(), &self.entry_id);
        let outcomes = self.link.during(calling).await.unwrap();
        let has_lost = outcomes
            .iter()
            .any(|(call, outcome)| *call == calls::ENTRIES && outcome.is_err());
        for (call, outcome) in outcomes {
            said(call, outcome.err());
        }
        if has_lost && let Some(kept) = self.kept.take() {
            let outcome = self.link.during(kept.go_on()).await.unwrap();
            said("kept SyncAuthorizedEntries", outcome.err());
        }
    }

    /// Proves the host anew, as far as a liar can.
    async fn come_back(&self, address: &Address) {
        let mut link = dial(address).await;
        let proven = prove(&mut link, &self.prover).await;
        said("AttestAgent", proven.err());
    }
}

async fn dial(address: &Address) -> Link {
    // It does not care who it is that gives it identities.
    let anyone = "spiffe://example.org/spire/server".parse::<SpiffeId>().unwrap();
    let dialing = Link::dial(address, Expected::Anyone(anyone), None, Clock::system());
    dialing.await.unwrap()
}

async fn prove(link: &mut Link, prover: &Prover) -> Result<(), AttestError> {
    prover.prepare().await?;
    let request = KeyRequest::generate(None)?;
    attest(link, prover, request.csr).await.map(drop)
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn said(call: &str, refusal: Option<impl Display>) {
    match refusal {
        Some(refusal) => say(format!("{call}: refused: {refusal}")),
        None => say(format!("{call}: granted")),
    }
}

fn say(what: impl Display) {
    println!("intruder: {what}");
}
