//! By which agents an entry can be reached: those whose ID its parent is, and those that match a node alias
//! above it.

use std::collections::{HashMap, HashSet};

use edge::grpc::Client;
use proto::{
    plastron::host::v1::{ListHostsRequest, hosts_client::HostsClient},
    spire::api::{
        server::{agent::v1::list_agents_request, entry::v1::list_entries_request::Filter},
        types::{Agent, Entry, Selector, Spiffeid},
    },
};
use tonic::Code;

use super::{super::agent, CommandError, PAGE, SERVER_PATH, batch, id_text};

/// How many agents are named for an entry.
const NAMED: usize = 5;

/// What has to be known to say it.
pub(super) struct Reach {
    agents: Vec<Agent>,
    /// Names of hosts by the agents' IDs.
    hosts: HashMap<String, String>,
    /// Entries by the ID that they give.
    entries: HashMap<String, Vec<Entry>>,
    /// What was said for a parent.
    said: HashMap<String, Vec<String>>,
}

impl Reach {
    /// Asks the server for what concerns `shown`; `all` says that these are all entries.
    pub(super) async fn ask(client: Client, shown: &[Entry], all: bool) -> Result<Self, CommandError> {
        let agents = agent::list(client.clone(), &list_agents_request::Filter::default()).await?;
        let entries = if all {
            by_spiffe_id(shown)
        } else {
            above(client.clone(), shown, &agents).await?
        };
        Ok(Self {
            agents: agents.into_iter().filter(|agent| !agent.banned).collect(),
            hosts: hosts(client).await?,
            entries,
            said: HashMap::new(),
        })
    }

    /// Says who reaches `entry`, a line each.
    pub(super) fn say(&mut self, entry: &Entry) -> Vec<String> {
        if is_alias(entry) {
            return self.lines(&self.matching(entry).collect::<Vec<_>>());
        }
        let parent = id_text(entry.parent_id.as_ref());
        if let Some(said) = self.said.get(&parent) {
            return said.clone();
        }
        let said = self.lines(&self.agents_under(&parent));
        self.said.insert(parent, said.clone());
        said
    }

    fn lines(&self, agents: &[&Agent]) -> Vec<String> {
        if agents.is_empty() {
            return vec!["no agent at present".into()];
        }
        let mut lines: Vec<_> = agents.iter().take(NAMED).map(|agent| self.line(agent)).collect();
        if agents.len() > NAMED {
            lines.push(format!("and {} more agents", agents.len() - NAMED));
        }
        lines
    }

    fn line(&self, agent: &Agent) -> String {
        let id = id_text(agent.id.as_ref());
        let host = self.hosts.get(&id).filter(|name| !name.is_empty());
        let host = host.map(|name| format!(", host {name}")).unwrap_or_default();
        format!("{id} ({}{host})", agent.attestation_type)
    }

    /// As the server decides it: the agent with that ID, those that match an alias of that ID, and those that
    /// reach the parents of other entries of that ID.
    fn agents_under(&self, parent: &str) -> Vec<&Agent> {
        let (mut open, mut seen) = (vec![parent.to_owned()], HashSet::new());
        let (mut found, mut named) = (Vec::new(), HashSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            found.extend(
                self.agents
                    .iter()
                    .filter(|agent| id_text(agent.id.as_ref()) == id),
            );
            for entry in self.entries.get(&id).into_iter().flatten() {
                if is_alias(entry) {
                    found.extend(self.matching(entry));
                } else {
                    open.push(id_text(entry.parent_id.as_ref()));
                }
            }
        }
        found.retain(|agent| named.insert(id_text(agent.id.as_ref())));
        found
    }

    fn matching(&self, alias: &Entry) -> impl Iterator<Item = &Agent> {
        let has = |agent: &Agent, wanted: &Selector| agent.selectors.contains(wanted);
        let agents = self.agents.iter();
        agents.filter(move |agent| alias.selectors.iter().all(|wanted| has(agent, wanted)))
    }
}

fn is_alias(entry: &Entry) -> bool {
    entry
        .parent_id
        .as_ref()
        .is_some_and(|parent| parent.path == SERVER_PATH)
}

fn by_spiffe_id(entries: &[Entry]) -> HashMap<String, Vec<Entry>> {
    let mut found: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in entries {
        let id = id_text(entry.spiffe_id.as_ref());
        found.entry(id).or_default().push(entry.clone());
    }
    found
}

/// The entries above `shown`, and those above these.
async fn above(
    client: Client,
    shown: &[Entry],
    agents: &[Agent],
) -> Result<HashMap<String, Vec<Entry>>, CommandError> {
    let mut found = HashMap::new();
    let ids = agents.iter().map(|agent| id_text(agent.id.as_ref()));
    let mut seen: HashSet<_> = ids.collect();
    let mut open: Vec<Spiffeid> = shown.iter().filter_map(|entry| entry.parent_id.clone()).collect();
    while let Some(parent) = open.pop() {
        let id = id_text(Some(&parent));
        if parent.path == SERVER_PATH || !seen.insert(id.clone()) {
            continue;
        }
        let filter = Filter {
            by_spiffe_id: Some(parent),
            ..Filter::default()
        };
        let parents = batch::list(client.clone(), &filter).await?;
        open.extend(parents.iter().filter_map(|entry| entry.parent_id.clone()));
        found.insert(id, parents);
    }
    Ok(found)
}

/// Names of hosts by the agents' IDs; none where the server has no such service.
async fn hosts(client: Client) -> Result<HashMap<String, String>, CommandError> {
    let mut client = HostsClient::new(client).max_decoding_message_size(batch::MAX_ANSWER);
    let (mut names, mut page_token) = (HashMap::new(), String::new());
    loop {
        let request = ListHostsRequest {
            enrolment: 0,
            page_size: PAGE,
            page_token,
        };
        let page = match client.list_hosts(request).await {
            Err(status) if status.code() == Code::Unimplemented => return Ok(names),
            page => page?.into_inner(),
        };
        names.extend(page.hosts.into_iter().map(|host| (host.agent_id, host.name)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> Option<Spiffeid> {
        let (trust_domain, path) = ("td".into(), path.into());
        Some(Spiffeid { trust_domain, path })
    }

    fn selectors(values: &[&str]) -> Vec<Selector> {
        let selector = |value: &&str| Selector {
            r#type: "tpm".into(),
            value: (*value).into(),
        };
        values.iter().map(selector).collect()
    }

    fn agent(path: &str, values: &[&str]) -> Agent {
        Agent {
            id: id(path),
            attestation_type: "tpm".into(),
            selectors: selectors(values),
            ..Agent::default()
        }
    }

    fn entry(spiffe_id: &str, parent_id: &str, values: &[&str]) -> Entry {
        Entry {
            spiffe_id: id(spiffe_id),
            parent_id: id(parent_id),
            selectors: selectors(values),
            ..Entry::default()
        }
    }

    fn check(entry: &Entry, expected: &[&str]) {
        let others = [
            self::entry("/rack", SERVER_PATH, &["rack:1"]),
            self::entry("/all", SERVER_PATH, &["any"]),
            self::entry("/proxy", "/rack", &["unix"]),
            self::entry("/loop", "/loop", &["unix"]),
        ];
        let mut reach = Reach {
            agents: vec![agent("/a", &["rack:1", "any"]), agent("/b", &["any"])],
            hosts: HashMap::from([("spiffe://td/b".into(), "db-1".into())]),
            entries: by_spiffe_id(&others),
            said: HashMap::new(),
        };
        assert_eq!(reach.say(entry), expected);
        assert_eq!(reach.say(entry), expected, "said again");
    }

    #[test]
    fn agents_are_found_as_the_server_finds_entries() {
        let (a, b) = ("spiffe://td/a (tpm)", "spiffe://td/b (tpm, host db-1)");
        check(&entry("/db", "/b", &["unix"]), &[b]);
        check(&entry("/db", "/rack", &["unix"]), &[a]);
        check(&entry("/db", "/all", &["unix"]), &[a, b]);
        check(&entry("/db", "/proxy", &["unix"]), &[a]);
        check(&entry("/rack", SERVER_PATH, &["rack:1"]), &[a]);
        check(&entry("/db", "/gone", &["unix"]), &["no agent at present"]);
        check(&entry("/db", "/loop", &["unix"]), &["no agent at present"]);
    }

    #[test]
    fn many_agents_are_counted() {
        let reach = Reach {
            agents: Vec::new(),
            hosts: HashMap::new(),
            entries: HashMap::new(),
            said: HashMap::new(),
        };
        let agents: Vec<_> = (0..NAMED + 2)
            .map(|number| agent(&format!("/{number}"), &[]))
            .collect();
        let lines = reach.lines(&agents.iter().collect::<Vec<_>>());
        assert_eq!(lines.len(), NAMED + 1);
        assert_eq!(lines.last().unwrap(), "and 2 more agents");
    }
}
