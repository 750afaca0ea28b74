//! The server ends as in a power failure, again and again, and keeps what it acknowledged.

pub(super) mod callers;
mod ledger;
mod state;

use std::collections::{HashMap, HashSet};

use swtpm_tests::{World, agent_id};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::Code;

use callers::Callers;
pub(super) use callers::Local;
use state::State;

const REDB_ROUNDS: usize = 50;
const SLED_ROUNDS: usize = 10;

/// What the server acknowledged.
enum Fact {
    /// An agent attested with this token.
    Agent(String),
    /// An entry has this identifier.
    Entry(String),
    /// A host's row has this identifier.
    Host(String),
    /// An SVID with this serial number was handed out to an agent for an entry, or for itself.
    Issued(String),
    /// An SVID with this serial number was minted.
    Minted(String),
    /// This token may attest an agent.
    Token(String),
}

/// Everything that was acknowledged so far, in all rounds.
#[derive(Default)]
struct Acknowledged {
    agents: HashSet<String>,
    entries: HashSet<String>,
    hosts: HashSet<String>,
    serials: HashSet<String>,
    /// Tokens whose attestation was not acknowledged.
    open_tokens: HashSet<String>,
    counts: HashMap<&'static str, usize>,
}

/// In each round the server is killed after another number of acknowledgements, of another kind, while more of every
/// kind is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_a_killed_server() {
    check("redb", REDB_ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_a_killed_server_with_sled() {
    check("sled", SLED_ROUNDS).await;
}

async fn check(engine: &'static str, rounds: usize) {
    let mut world = World::with_store(engine);
    let agent = world.agent(&world.token());
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut calling = JoinSet::new();
        Callers::new(&world, round, sender).spawn_all(&mut calling);
        let kind = KINDS[round % KINDS.len()];
        let enough = acknowledged.count(kind) + 1 + round % 7;
        while acknowledged.count(kind) < enough {
            acknowledged.add(receiver.recv().await.expect("callers that call"));
        }
        world.kill_server();
        while let Some(ended) = calling.join_next().await {
            ended.unwrap();
        }
        while let Some(fact) = receiver.recv().await {
            acknowledged.add(fact);
        }
        world.start_server();

        acknowledged.check(&world, round).await;
    }

    // What came back in any round would still be there.
    check_spent(&world, &acknowledged.agents).await;
    agent.daemon().wait_for_more("Session opened", 2);
    let _entry = world.entry(agent.id(), "spiffe://example.org/after", &[]);
    agent.daemon().wait_for("SVID ready");
}

const KINDS: [&str; 5] = ["agents", "entries", "hosts", "issued", "minted"];

impl Acknowledged {
    fn count(&self, kind: &'static str) -> usize {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    fn add(&mut self, fact: Fact) {
        let (kind, is_new) = match fact {
            Fact::Agent(token) => {
                self.open_tokens.remove(&token);
                ("agents", self.agents.insert(token))
            }
            Fact::Entry(id) => ("entries", self.entries.insert(id)),
            Fact::Host(id) => ("hosts", self.hosts.insert(id)),
            Fact::Issued(serial) => ("issued", self.serials.insert(serial)),
            Fact::Minted(serial) => ("minted", self.serials.insert(serial)),
            Fact::Token(token) => ("tokens", self.open_tokens.insert(token)),
        };
        assert!(is_new, "one of the {kind} was acknowledged twice");
        *self.counts.entry(kind).or_default() += 1;
    }

    async fn check(&mut self, world: &World, round: usize) {
        let state = State::read(&world.server_socket()).await;
        let lost = |kind: &str, ours: &HashSet<String>, theirs: &HashSet<String>| {
            let lost: Vec<_> = ours.difference(theirs).collect();
            assert!(lost.is_empty(), "round {round} lost {kind} {lost:?}");
        };
        lost("entries", &self.entries, &state.entries);
        lost("hosts", &self.hosts, &state.hosts);
        let ids: HashSet<_> = self.agents.iter().map(|token| agent_id(token)).collect();
        lost("agents", &ids, &state.agents.keys().cloned().collect());
        let ledger = ledger::serials(&world.data_dir());
        lost("serial numbers", &self.serials, &ledger);
        lost(
            "agents' serial numbers",
            &state.agents.into_values().collect(),
            &ledger,
        );
        self.settle_tokens(world, round).await;
    }

    /// A token whose attestation was cut off is still good, or its agent is there: never spent for nothing.
    async fn settle_tokens(&mut self, world: &World, round: usize) {
        let agents = State::read(&world.server_socket()).await.agents;
        let local = Local::connect(&world.server_socket()).await.unwrap();
        for token in self.open_tokens.drain() {
            match local.attest(&token).await {
                Ok(_) => assert!(
                    !agents.contains_key(&agent_id(&token)),
                    "round {round}: {token} is good twice"
                ),
                Err(refused) => {
                    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
                    assert!(
                        agents.contains_key(&agent_id(&token)),
                        "round {round} lost token {token}"
                    );
                }
            }
            self.agents.insert(token);
        }
    }
}

/// No token attests a second agent.
async fn check_spent(world: &World, tokens: impl IntoIterator<Item = &String>) {
    let local = Local::connect(&world.server_socket()).await.unwrap();
    for token in tokens {
        let Err(refused) = local.attest(token).await else {
            panic!("token {token} is good again");
        };
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}
