//! `entry import-spire`.

use std::path::PathBuf;

use clap::Args;
use proto::spire::api::{
    server::{
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        entry::v1::list_entries_request::Filter,
    },
    types::Entry,
};
use serde_json::json;
use svid::TrustDomain;

use super::{
    super::output::{Output, line, note},
    CommandError, Common, batch,
    file::Listed,
    plan::{self, Plan, Prune},
};

/// SPIRE's own default.
const SPIRE_SOCKET: &str = "/tmp/spire-server/private/api.sock";
/// Below it are the IDs that servers give to agents.
const AGENTS: &str = "/spire/agent/";

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The local socket of SPIRE's server.
    #[arg(long, value_name = "FILE", default_value = SPIRE_SOCKET)]
    spire_socket: PathBuf,
    /// Says what would be created, and creates nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// What a server says of itself.
struct Server {
    trust_domain: String,
    entries: Vec<Entry>,
}

impl Import {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let spire = Common {
            socket_path: self.spire_socket.clone(),
            output: self.common.output,
        };
        let theirs = ask(&spire).await?;
        let ours = ask(&self.common).await?;
        if theirs.trust_domain != ours.trust_domain {
            return Err(CommandError::Input(format!(
                "SPIRE's trust domain is `{}`, this server's is `{}`: entries belong to one trust domain",
                theirs.trust_domain, ours.trust_domain
            )));
        }
        let plan = plan::decide(
            &listed(theirs.entries, &ours.entries),
            &ours.entries,
            &Prune::Nothing,
        )?;
        if !self.dry_run {
            self.create(&plan).await?;
        }
        self.report(&plan)
    }

    async fn create(&self, plan: &Plan) -> Result<(), CommandError> {
        let entries: Vec<_> = plan.create.iter().map(|new| new.entry.clone()).collect();
        let results = self
            .common
            .call(async |client| batch::create(client, &entries).await);
        let results = results.await?;
        let statuses = results.iter().map(|result| result.status.as_ref());
        let names = plan.create.iter().map(|new| new.at.clone());
        batch::check(names, statuses, "created")
    }

    fn report(&self, plan: &Plan) -> Result<(), CommandError> {
        for update in &plan.update {
            let fields: Vec<_> = update.changes.iter().map(|change| change.field).collect();
            note(&format!(
                "{}: is here already, with other {}; left as it is",
                update.new.at,
                fields.join(", ")
            ));
        }
        let created = plan.create.len();
        let agents = plan
            .create
            .iter()
            .filter(|new| is_under_agent(&new.entry))
            .count();
        if self.common.output == Output::Json {
            let report = json!({
                "created": created,
                "differing": plan.update.len(),
                "already_here": plan.unchanged,
                "under_agents": agents,
                "dry_run": self.dry_run,
            });
            line(&edge::json::pretty(&report)?);
            return Ok(());
        }
        let what = if self.dry_run {
            "would be created"
        } else {
            "created"
        };
        let (differing, same) = (plan.update.len(), plan.unchanged);
        line(&format!(
            "{created} entries {what}, {same} are here already, {differing} are here and differ"
        ));
        if agents > 0 {
            line(&format!(
                "{agents} of them are for one agent each, by its ID: they are reached when an agent attests under \
                 that ID; `entry show` says which are"
            ));
        }
        Ok(())
    }
}

fn is_under_agent(entry: &Entry) -> bool {
    entry
        .parent_id
        .as_ref()
        .is_some_and(|parent| parent.path.starts_with(AGENTS))
}

async fn ask(server: &Common) -> Result<Server, CommandError> {
    let asked = server.call(async |client| {
        let mut bundles = BundleClient::new(client.clone());
        let bundle = bundles.get_bundle(GetBundleRequest::default()).await?;
        let name = bundle.into_inner().trust_domain;
        let entries = batch::list(client, &Filter::default()).await?;
        // SPIRE writes an ID, we the name alone.
        let trust_domain = TrustDomain::parse_name_or_id(&name);
        let trust_domain = trust_domain.map_or(name, |domain| domain.to_string());
        Ok(Server {
            trust_domain,
            entries,
        })
    });
    asked.await
}

/// Their entries, with their identifiers but where one that says the same is here under another.
fn listed(theirs: Vec<Entry>, ours: &[Entry]) -> Vec<Listed> {
    let ours = plan::ids_by_key(ours);
    let list = |mut entry: Entry| {
        let at = format!("{} {}", entry.id, plan::name(&entry));
        if let Some(id) = ours.get(&plan::Key::of(&entry)) {
            entry.id.clone_from(id);
        }
        (entry.revision_number, entry.created_at) = (0, 0);
        Listed { at, entry }
    };
    theirs.into_iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, hint: &str) -> Entry {
        Entry {
            id: id.into(),
            hint: hint.into(),
            revision_number: 7,
            ..Entry::default()
        }
    }

    #[test]
    fn identifiers_are_kept_unless_the_entry_is_here_under_another() {
        let id = |ours: &[Entry]| listed(vec![entry("theirs", "")], ours).remove(0).entry.id;
        assert_eq!(id(&[]), "theirs");
        assert_eq!(id(&[entry("ours", "x")]), "ours");
        assert_eq!(
            listed(vec![entry("theirs", "")], &[])
                .remove(0)
                .entry
                .revision_number,
            0
        );
    }
}
