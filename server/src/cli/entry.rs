//! `entry`.

mod apply;
mod batch;
mod file;
mod import;
mod plan;
mod reach;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use edge::grpc::Client;
use proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryResponse, BatchUpdateEntryRequest,
        BatchUpdateEntryResponse, CountEntriesRequest, GetEntryRequest, ListEntriesResponse,
        batch_delete_entry_response, count_entries_request, entry_client::EntryClient,
        list_entries_request::Filter,
    },
    types::{self, Entry, FederatesWithMatch, SelectorMatch, entry::AdditionalAttributes},
};
use svid::{DnsName, Selector, SpiffeId, Timestamp};

use super::{
    CommandError, Common,
    agent::{id_text, wire_id, wire_selector},
    output::{Output, facts, line},
};
pub use file::EntryFileError;
use file::Listed;
pub use plan::PlanError;
use reach::Reach;

/// How many entries a file holds.
pub(super) fn count_listed(text: &str) -> Result<usize, EntryFileError> {
    file::parse_entries(text).map(|entries| entries.len())
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Brings the server to what a file says: creates and updates entries, and with --prune removes others. Says
    /// what it does as a diff, and asks nothing.
    ///
    /// An entry of the file is the one with the identifier that it gives; without, the one with its parent, SPIFFE
    /// ID and selectors, or else the only one with its parent, SPIFFE ID and hint. Fields that the file leaves out
    /// have their defaults.
    ///
    /// Exits with 0 when it is done, or there is nothing to do; with 1 when something failed, each said in a line,
    /// and then nothing was removed; with 2 when a dry run found something to do.
    ///
    /// Example: plastron-server entry apply -f entries.json --prune --dry-run
    #[command(verbatim_doc_comment)]
    Apply(apply::Apply),
    /// Counts entries.
    Count(Count),
    /// Registers a workload, or a group of nodes with --node.
    ///
    /// Example: plastron-server entry create --parent-id spiffe://example.org/spire/agent/tpm/1f…
    /// --spiffe-id spiffe://example.org/db --selector unix:user:postgres
    ///
    /// With --data, registers the entries of a file, in SPIRE's forms: what `entry show --output json` prints, or
    ///   {"entries": [{"spiffe_id": "spiffe://example.org/db", "parent_id": "spiffe://example.org/rack",
    ///                 "selectors": [{"type": "unix", "value": "user:postgres"}]}]}
    #[command(verbatim_doc_comment)]
    Create(Create),
    /// Removes entries. Their SVIDs are not renewed any more.
    ///
    /// With --file, those that a file names: {"ids": ["…", "…"]}
    #[command(verbatim_doc_comment)]
    Delete(Delete),
    /// Creates here what a running SPIRE server has, over its local socket. Nothing changes there, and what is here
    /// already stays as it is. Entries keep their identifiers. Both must serve the same trust domain.
    ///
    /// Example: plastron-server entry import-spire --dry-run
    #[command(verbatim_doc_comment)]
    ImportSpire(import::Import),
    /// Shows entries, all of them if nothing narrows the list, and by which agents each can be reached.
    Show(Show),
    /// Replaces an entry, but for its identifier; with --data, the entries of a file, which gives identifiers.
    Update(Update),
}

#[derive(Args, Debug)]
struct Fields {
    /// SPIFFE ID that the entry gives.
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,
    /// SPIFFE ID of the agent or node alias that may have the entry.
    #[arg(long, value_name = "ID")]
    parent_id: Option<SpiffeId>,
    /// What a workload must show, as `type:value`; may be repeated, and all must hold.
    #[arg(long, value_name = "SELECTOR", required = true)]
    selector: Vec<Selector>,
    /// Lifetime of X509-SVIDs in seconds; the server's default if not given.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    x509_svid_ttl: u32,
    /// Lifetime of JWT-SVIDs in seconds; the server's default if not given.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    jwt_svid_ttl: u32,
    /// Trust domain whose bundle the workload gets as well; may be repeated.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// DNS name in X509-SVIDs; may be repeated.
    #[arg(long, value_name = "NAME")]
    dns: Vec<DnsName>,
    /// The workload may administer the server.
    #[arg(long)]
    admin: bool,
    /// The workload is a downstream server.
    #[arg(long)]
    downstream: bool,
    /// The agent keeps the SVID in a store instead of serving it.
    #[arg(long)]
    store_svid: bool,
    /// When the entry ends, in seconds since the epoch; never if not given.
    #[arg(long, value_name = "TIME", default_value_t = 0)]
    entry_expiry: i64,
    /// Tells SVIDs of one workload apart.
    #[arg(long, value_name = "TEXT", default_value = "")]
    hint: String,
    /// The agent signs the X509-SVID only when it is asked for.
    #[arg(long)]
    disable_x509_svid_prefetch: bool,
    /// JWT-SVIDs carry a `jti`.
    #[arg(long)]
    jwt_svid_include_jti: bool,
}

#[derive(Args, Debug)]
pub(super) struct Create {
    #[command(flatten)]
    fields: Option<Fields>,
    /// File of entries (JSON); `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Fields", "node", "entry_id"])]
    data: Option<PathBuf>,
    /// The entry names nodes by their selectors: entries registered under its SPIFFE ID reach all of them.
    #[arg(long, conflicts_with = "parent_id")]
    node: bool,
    /// Identifier of the entry; a random one if not given.
    #[arg(long, value_name = "ENTRY", default_value = "")]
    entry_id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    #[command(flatten)]
    fields: Option<Fields>,
    /// File of entries (JSON), each with its identifier; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Fields", "entry_id"])]
    data: Option<PathBuf>,
    /// Identifier of the entry.
    #[arg(
        long,
        value_name = "ENTRY",
        required_unless_present = "data",
        default_value = "",
        hide_default_value = true
    )]
    entry_id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Delete {
    /// Identifier of an entry; may be repeated.
    #[arg(long, value_name = "ENTRY", required_unless_present = "file")]
    entry_id: Vec<String>,
    /// File of identifiers (JSON); `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "entry_id")]
    file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What entries are narrowed to; all that is given must hold.
#[derive(Args, Debug)]
struct Narrowing {
    /// Only entries that give this SPIFFE ID.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Only entries with this parent.
    #[arg(long, value_name = "ID")]
    parent_id: Option<SpiffeId>,
    /// Only entries with these selectors; may be repeated.
    #[arg(long, value_name = "SELECTOR")]
    selector: Vec<Selector>,
    /// How the given selectors are compared with those of an entry.
    #[arg(long, value_enum, default_value_t = MatchOn::Superset)]
    match_selectors_on: MatchOn,
    /// Only entries that federate with these trust domains; may be repeated.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// How the given trust domains are compared with those of an entry.
    #[arg(long, value_enum, default_value_t = MatchOn::Superset)]
    match_federates_with_on: MatchOn,
    /// Only entries with this hint.
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// Only entries of downstream servers.
    #[arg(long)]
    downstream: bool,
}

#[derive(Args, Debug)]
pub(super) struct Count {
    #[command(flatten)]
    narrowing: Narrowing,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// Identifier of the one entry to show.
    #[arg(long, value_name = "ENTRY")]
    entry_id: Option<String>,
    #[command(flatten)]
    narrowing: Narrowing,
    #[command(flatten)]
    common: Common,
}

/// How a given set is compared with that of an item.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MatchOn {
    /// They share a member.
    Any,
    /// They are equal.
    Exact,
    /// The item's set lies within the given one.
    Subset,
    /// The item's set holds the given one.
    Superset,
}

impl MatchOn {
    pub(super) fn to_wire(self) -> i32 {
        use types::selector_match::MatchBehavior;
        let behaviour = match self {
            Self::Any => MatchBehavior::MatchAny,
            Self::Exact => MatchBehavior::MatchExact,
            Self::Subset => MatchBehavior::MatchSubset,
            Self::Superset => MatchBehavior::MatchSuperset,
        };
        behaviour.into()
    }
}

const PAGE: i32 = 500;
const CREATED: &str = "spire.api.server.entry.v1.BatchCreateEntryResponse";
const DELETED: &str = "spire.api.server.entry.v1.BatchDeleteEntryResponse";
const UPDATED: &str = "spire.api.server.entry.v1.BatchUpdateEntryResponse";
const SERVER_PATH: &str = crate::registry::SERVER_PATH;

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Apply(apply) => apply.execute().await,
            Self::Count(count) => count.execute().await,
            Self::Create(create) => create.execute().await,
            Self::Delete(delete) => delete.execute().await,
            Self::ImportSpire(import) => import.execute().await,
            Self::Show(show) => show.execute().await,
            Self::Update(update) => update.execute().await,
        }
    }
}

impl Fields {
    fn entry(self, id: String, node: bool) -> Result<Entry, CommandError> {
        let parent_id = match (self.parent_id, node) {
            (Some(id), _) => wire_id(&id),
            (None, true) => types::Spiffeid {
                trust_domain: self.spiffe_id.trust_domain().to_string(),
                path: SERVER_PATH.into(),
            },
            (None, false) => {
                return Err(CommandError::Input(
                    "give --parent-id, or --node for a group of nodes".into(),
                ));
            }
        };
        let ttl = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
        let attributes = AdditionalAttributes {
            disable_x509_svid_prefetch: self.disable_x509_svid_prefetch,
            jwt_svid_include_jti: self.jwt_svid_include_jti,
        };
        Ok(Entry {
            id,
            spiffe_id: Some(wire_id(&self.spiffe_id)),
            parent_id: Some(parent_id),
            selectors: self.selector.iter().map(wire_selector).collect(),
            x509_svid_ttl: ttl(self.x509_svid_ttl),
            jwt_svid_ttl: ttl(self.jwt_svid_ttl),
            federates_with: self.federates_with,
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.entry_expiry,
            dns_names: self.dns.iter().map(ToString::to_string).collect(),
            store_svid: self.store_svid,
            hint: self.hint,
            additional_attributes: (attributes != AdditionalAttributes::default()).then_some(attributes),
            ..Entry::default()
        })
    }
}

impl Create {
    async fn execute(self) -> Result<(), CommandError> {
        if let Some(path) = &self.data {
            return self.create_listed(&listed(path)?).await;
        }
        let entry = given(self.fields)?.entry(self.entry_id, self.node)?;
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let response = self
            .common
            .call(async |client| Ok(EntryClient::new(client).batch_create_entry(request).await?))
            .await?
            .into_inner();
        let items: Vec<_> = response
            .results
            .iter()
            .map(|item| (item.status.as_ref(), item.entry.as_ref()))
            .collect();
        self.common
            .output
            .print(CREATED, &response, || pretty_items(&items))?;
        check_items(&items, "created")
    }

    async fn create_listed(&self, listed: &[Listed]) -> Result<(), CommandError> {
        let entries: Vec<_> = listed.iter().map(|listed| listed.entry.clone()).collect();
        let results = self
            .common
            .call(async |client| batch::create(client, &entries).await);
        let response = BatchCreateEntryResponse {
            results: results.await?,
        };
        let statuses = || response.results.iter().map(|result| result.status.as_ref());
        let said = || format!("{} entries created", done(statuses()));
        self.common.output.print(CREATED, &response, said)?;
        batch::check(names(listed), statuses(), "created")
    }
}

impl Update {
    async fn execute(self) -> Result<(), CommandError> {
        if let Some(path) = &self.data {
            return self.update_listed(&listed(path)?).await;
        }
        let entry = given(self.fields)?.entry(self.entry_id, false)?;
        let request = BatchUpdateEntryRequest {
            entries: vec![entry],
            input_mask: None,
            output_mask: None,
        };
        let response = self
            .common
            .call(async |client| Ok(EntryClient::new(client).batch_update_entry(request).await?))
            .await?
            .into_inner();
        let items: Vec<_> = response
            .results
            .iter()
            .map(|item| (item.status.as_ref(), item.entry.as_ref()))
            .collect();
        self.common
            .output
            .print(UPDATED, &response, || pretty_items(&items))?;
        check_items(&items, "updated")
    }

    async fn update_listed(&self, listed: &[Listed]) -> Result<(), CommandError> {
        if let Some(nameless) = listed.iter().find(|listed| listed.entry.id.is_empty()) {
            let text = format!("{}: has no id, and so can't be updated", nameless.at);
            return Err(CommandError::Input(text));
        }
        let entries: Vec<_> = listed.iter().map(|listed| listed.entry.clone()).collect();
        let results = self
            .common
            .call(async |client| batch::update(client, &entries).await);
        let response = BatchUpdateEntryResponse {
            results: results.await?,
        };
        let statuses = || response.results.iter().map(|result| result.status.as_ref());
        let said = || format!("{} entries updated", done(statuses()));
        self.common.output.print(UPDATED, &response, said)?;
        batch::check(names(listed), statuses(), "updated")
    }
}

/// The entries of a file, of which there are some.
fn listed(path: &Path) -> Result<Vec<Listed>, CommandError> {
    let listed = file::read_entries(path)?;
    if listed.is_empty() {
        return Err(CommandError::Input(format!(
            "`{}` names no entry",
            path.display()
        )));
    }
    Ok(listed)
}

fn given(fields: Option<Fields>) -> Result<Fields, CommandError> {
    let missing = "give --spiffe-id and --selector, or a file with --data";
    fields.ok_or_else(|| CommandError::Input(missing.into()))
}

fn names(listed: &[Listed]) -> impl ExactSizeIterator<Item = String> {
    let name = |listed: &Listed| format!("{} {}", listed.at, id_text(listed.entry.spiffe_id.as_ref()));
    listed.iter().map(name)
}

fn done<'a>(statuses: impl Iterator<Item = Option<&'a types::Status>>) -> usize {
    statuses.flatten().filter(|status| status.code == 0).count()
}

impl Delete {
    async fn execute(self) -> Result<(), CommandError> {
        let ids = match &self.file {
            Some(path) => file::read_ids(path)?,
            None => self.entry_id.clone(),
        };
        let results = self.common.call(async |client| batch::delete(client, &ids).await);
        let response = BatchDeleteEntryResponse {
            results: results.await?,
        };
        let statuses = || response.results.iter().map(|result| result.status.as_ref());
        let said = || match &self.file {
            Some(_) => format!("{} entries deleted", done(statuses())),
            None => response.results.iter().filter_map(said_deleted).collect(),
        };
        self.common.output.print(DELETED, &response, said)?;
        batch::check(ids.iter().cloned(), statuses(), "deleted")
    }
}

fn said_deleted(result: &batch_delete_entry_response::Result) -> Option<String> {
    let status = result.status.as_ref().filter(|status| status.code == 0);
    status.map(|_| format!("{}: deleted\n", result.id))
}

impl Count {
    async fn execute(self) -> Result<(), CommandError> {
        let filter = self.narrowing.filter();
        let filter = count_entries_request::Filter {
            by_spiffe_id: filter.by_spiffe_id,
            by_parent_id: filter.by_parent_id,
            by_selectors: filter.by_selectors,
            by_federates_with: filter.by_federates_with,
            by_hint: filter.by_hint,
            by_downstream: filter.by_downstream,
        };
        let request = CountEntriesRequest { filter: Some(filter) };
        let response = self
            .common
            .call(async |client| Ok(EntryClient::new(client).count_entries(request).await?))
            .await?
            .into_inner();
        let name = "spire.api.server.entry.v1.CountEntriesResponse";
        self.common.output.print(name, &response, || {
            format!("{} registration entries", response.count)
        })
    }
}

impl Show {
    async fn execute(self) -> Result<(), CommandError> {
        self.common
            .call(async |client| {
                let entries = self.entries(client.clone()).await?;
                if self.common.output == Output::Pretty {
                    return self.show(client, &entries).await;
                }
                let response = ListEntriesResponse {
                    entries,
                    next_page_token: String::new(),
                };
                let name = "spire.api.server.entry.v1.ListEntriesResponse";
                self.common.output.print(name, &response, String::new)
            })
            .await
    }

    async fn entries(&self, client: Client) -> Result<Vec<Entry>, CommandError> {
        let Some(id) = self.entry_id.clone() else {
            return batch::list(client, &self.narrowing.filter()).await;
        };
        let request = GetEntryRequest {
            id,
            output_mask: None,
        };
        Ok(vec![
            EntryClient::new(client).get_entry(request).await?.into_inner(),
        ])
    }

    async fn show(&self, client: Client, entries: &[Entry]) -> Result<(), CommandError> {
        let all = self.entry_id.is_none() && self.narrowing.filter() == Filter::default();
        let mut reach = Reach::ask(client, entries, all).await?;
        line(&format!("Found {} entries", entries.len()));
        line("");
        for entry in entries {
            let reached = reach.say(entry).into_iter().map(|agent| ("Reached by", agent));
            line(&pretty(entry, reached));
            line("");
        }
        Ok(())
    }
}

impl Narrowing {
    fn filter(&self) -> Filter {
        let by_selectors = (!self.selector.is_empty()).then(|| SelectorMatch {
            selectors: self.selector.iter().map(wire_selector).collect(),
            r#match: self.match_selectors_on.to_wire(),
        });
        let by_federates_with = (!self.federates_with.is_empty()).then(|| FederatesWithMatch {
            trust_domains: self.federates_with.clone(),
            r#match: self.match_federates_with_on.to_wire(),
        });
        Filter {
            by_spiffe_id: self.spiffe_id.as_ref().map(wire_id),
            by_parent_id: self.parent_id.as_ref().map(wire_id),
            by_selectors,
            by_federates_with,
            by_hint: self.hint.clone(),
            by_downstream: self.downstream.then_some(true),
        }
    }
}

type BatchItem<'a> = (Option<&'a types::Status>, Option<&'a Entry>);

fn check_items(items: &[BatchItem<'_>], what: &'static str) -> Result<(), CommandError> {
    let failed = items
        .iter()
        .filter(|(status, _)| status.is_none_or(|status| status.code != 0))
        .count();
    if failed == 0 {
        return Ok(());
    }
    Err(CommandError::Items {
        failed,
        all: items.len(),
        what,
    })
}

fn pretty_items(items: &[BatchItem<'_>]) -> String {
    let said = |(status, entry): &BatchItem<'_>| {
        let failure = status
            .filter(|status| status.code != 0)
            .map(|status| format!("Failed: {}\n", status.message));
        failure.unwrap_or_default()
            + &entry
                .map(|entry| pretty(entry, std::iter::empty()))
                .unwrap_or_default()
            + "\n"
    };
    items.iter().map(said).collect()
}

fn pretty(entry: &Entry, more: impl Iterator<Item = (&'static str, String)>) -> String {
    let ttl = |seconds: i32| {
        if seconds == 0 {
            "default".into()
        } else {
            seconds.to_string()
        }
    };
    let mut lines = vec![
        ("Entry ID", entry.id.clone()),
        ("SPIFFE ID", id_text(entry.spiffe_id.as_ref())),
        ("Parent ID", id_text(entry.parent_id.as_ref())),
        ("Revision", entry.revision_number.to_string()),
        ("X509-SVID TTL", ttl(entry.x509_svid_ttl)),
        ("JWT-SVID TTL", ttl(entry.jwt_svid_ttl)),
    ];
    let switches = [
        ("Downstream", entry.downstream),
        ("Admin", entry.admin),
        ("StoreSvid", entry.store_svid),
    ];
    lines.extend(
        switches
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| (name, "true".into())),
    );
    if entry.expires_at != 0 {
        lines.push((
            "Expiration time",
            Timestamp::from_unix(entry.expires_at).to_string(),
        ));
    }
    let selectors = entry
        .selectors
        .iter()
        .map(|selector| format!("{}:{}", selector.r#type, selector.value));
    lines.extend(selectors.map(|selector| ("Selector", selector)));
    lines.extend(
        entry
            .federates_with
            .iter()
            .map(|domain| ("FederatesWith", domain.clone())),
    );
    lines.extend(entry.dns_names.iter().map(|name| ("DNS name", name.clone())));
    if !entry.hint.is_empty() {
        lines.push(("Hint", entry.hint.clone()));
    }
    lines.extend(more);
    facts(&lines)
}
