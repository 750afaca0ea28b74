//! `host`.

mod approve;
mod certificates;
mod filter;
mod import;
mod keys;
mod platforms;

use std::time::{SystemTime, UNIX_EPOCH};

use attest::report::printable;
use clap::{Args, Subcommand, ValueEnum};
use edge::grpc::Client;
use proto::plastron::host::v1::{
    Alarm, Appraisal, EndorsementKey, Enrolment, Finding, GetHostRequest, Host, ListHostsRequest,
    ListHostsResponse, Proposal, ReleaseHostRequest, RemoveHostRequest, SvidKeyPlace, Verdict,
    hosts_client::HostsClient,
};
use svid::Timestamp;

use super::{CommandError, Common, output::facts};
use approve::Approve;
use filter::Filter;
use import::Import;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Adds an endorsement key to a host, beside those by which it is known: it may have several, and several TPMs.
    ///
    /// Example: plastron-server host add-ek --id 6f9c… --ek 1f0a…
    #[command(verbatim_doc_comment)]
    AddEk(keys::Key),
    /// Enrols a host that proved its TPM and waits for approval. Compare the EK hash with that of the machine
    /// first, as `plastron-agent tpm ek` prints it there. Of many hosts: all that wait and meet the options, which are
    /// listed first.
    ///
    /// Examples:
    ///   plastron-server host approve --id 6f9c… --name db-1
    ///   plastron-server host approve --certified --manufacturer STM --from 10.1.0.0/16 --yes
    #[command(verbatim_doc_comment)]
    Approve(Approve),
    /// Enrols hosts before they are ever seen, by the hash of their endorsement key or by its certificate.
    ///
    /// Examples:
    ///   plastron-server host import --name db-1 --ek-hash 1f0a…
    ///   plastron-server host import --issuer 'CN=TPM EK CA,O=Vendor' --serial-number 0a:1b…
    ///   plastron-server host import --file hosts.csv
    ///   plastron-server host import --file hosts.csv --path 'dc1/{name}' --dry-run
    ///   plastron-server host import --ek-certificates delivered/
    ///   plastron-server host import --platform-certificates delivered/ --platform-roots makers/
    ///   ssh db-1 plastron-agent tpm ek --output json | plastron-server host import --file -
    ///
    /// A CSV file has a header that names its columns, of name (or asset), ek_hash, issuer, serial_number, issuer_key, path
    /// (what follows /spire/agent/tpm/ in the agent's ID) and policies (names with spaces between):
    ///   name,ek_hash,path,policies
    ///   db-1,1f0a…,dc1/db-1,rack-7
    ///
    /// The hash list of SPIRE's community TPM plugin, one a line, needs no header.
    /// A JSON file has an array of hosts, or one host after the other:
    ///   {"name": "db-1", "endorsement_keys": [{"hash": "1f0a…"}]}
    #[command(verbatim_doc_comment)]
    Import(Import),
    /// Lists the hosts that may attest, and those that wait for approval.
    ///
    /// Examples:
    ///   plastron-server host list --pending
    ///   plastron-server host list --pending --certified --older-than 1h
    ///   plastron-server host list --verdict quarantined
    #[command(verbatim_doc_comment)]
    List(List),
    /// Lifts the quarantine of a host, once it is what it should be again. It gets nothing before it attests anew.
    ///
    /// Example: plastron-server host release --id 6f9c…
    #[command(verbatim_doc_comment)]
    Release(One),
    /// Takes an endorsement key off a host. If its TPM ever proved that key, what the host has is revoked, and it has to
    /// attest by another one.
    ///
    /// Example: plastron-server host remove-ek --id 6f9c… --ek 1f0a…
    #[command(verbatim_doc_comment)]
    RemoveEk(keys::Key),
    /// Gives a host another TPM, as after a repair. It keeps its row, its agent's ID and its policies; what the host had is
    /// revoked, and the new TPM has to attest. A quarantine stays.
    ///
    /// Examples:
    ///   plastron-server host replace-tpm --id 6f9c… --ek 1f0a…
    ///   plastron-server host replace-tpm --id 6f9c… --ek-certificate ek.der
    #[command(verbatim_doc_comment)]
    ReplaceTpm(keys::ReplaceTpm),
    /// Forgets a host. Its agent is evicted, and it can't attest any more until it is enrolled again.
    ///
    /// Example: plastron-server host remove --id 6f9c…
    #[command(verbatim_doc_comment)]
    Remove(One),
    /// Shows a host.
    ///
    /// Example: plastron-server host show --id 6f9c…
    #[command(verbatim_doc_comment)]
    Show(One),
}

#[derive(Args, Debug)]
pub(super) struct One {
    /// Identifier of the host, as `host list` shows it.
    #[arg(long, value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only hosts that wait for approval.
    #[arg(long, conflicts_with = "enrolled")]
    pending: bool,
    /// Only hosts that may attest.
    #[arg(long)]
    enrolled: bool,
    /// Only hosts that may attest, and of which this is thought.
    #[arg(long, value_enum, conflicts_with = "pending")]
    verdict: Option<Thought>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    common: Common,
}

/// What is thought of a host.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Thought {
    /// It showed that it is not what it should be.
    Quarantined,
    /// It has not shown lately what it is.
    Stale,
    /// It showed lately that it is what it should be.
    Verified,
}

impl Thought {
    /// Whether it is what is thought of `host`.
    fn is_of(self, host: &Host) -> bool {
        let finding = match self {
            Self::Quarantined => Finding::Quarantined,
            Self::Stale => Finding::Stale,
            Self::Verified => Finding::Verified,
        };
        let mut verdict = host.verdict.iter();
        host.enrolment() == Enrolment::Enrolled && verdict.any(|verdict| verdict.finding() == finding)
    }
}

const PAGE: i32 = 500;
/// Largest answer: a thousand hosts by issuers of the greatest length.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::AddEk(key) => key.add().await,
            Self::Approve(approve) => approve.execute().await,
            Self::Import(import) => import.execute().await,
            Self::List(list) => list.execute().await,
            Self::Release(one) => {
                let request = ReleaseHostRequest { id: one.id };
                let host = one
                    .common
                    .call(async |client| Ok(hosts(client).release_host(request).await?))
                    .await?;
                let host = host.get_ref();
                let is_held = |verdict: &Verdict| verdict.finding() == Finding::Quarantined;
                let is_noted = host.verdict.as_ref().is_some_and(is_held);
                one.common.print(host, said(is_noted, "Host released."))
            }
            Self::RemoveEk(key) => key.remove().await,
            Self::ReplaceTpm(replace) => replace.execute().await,
            Self::Remove(one) => {
                let request = RemoveHostRequest { id: one.id };
                let host = one
                    .common
                    .call(async |client| Ok(hosts(client).remove_host(request).await?))
                    .await?;
                one.common.print(host.get_ref(), "Host removed.")
            }
            Self::Show(one) => {
                let request = GetHostRequest { id: one.id };
                let host = one
                    .common
                    .call(async |client| Ok(hosts(client).get_host(request).await?))
                    .await?;
                one.common.print(host.get_ref(), "")
            }
        }
    }
}

impl Common {
    fn print(&self, host: &Host, what_happened: &str) -> Result<(), CommandError> {
        self.output.print("plastron.host.v1.Host", host, || {
            format!("{what_happened}\n{}", pretty(host)).trim_start().into()
        })
    }
}

/// What to say of an order: that it was carried out, or only noted.
const fn said(is_noted: bool, what_happened: &str) -> &str {
    if is_noted {
        "Noted; it takes another person to order the same."
    } else {
        what_happened
    }
}

/// Whether the order that begins so waits for another person; another one may, whatever was done.
fn waits(host: &Host, order: &str) -> bool {
    let first = host.proposal.as_ref();
    first.is_some_and(|first| first.what.starts_with(order))
}

impl List {
    async fn execute(self) -> Result<(), CommandError> {
        let enrolment = self.enrolment();
        let mut hosts = self
            .common
            .call(async |client| all_hosts(client, enrolment).await)
            .await?;
        let now = now();
        hosts.retain(|host| {
            self.filter.matches(host, now) && self.verdict.is_none_or(|verdict| verdict.is_of(host))
        });
        let response = ListHostsResponse {
            hosts,
            next_page_token: String::new(),
        };
        self.common
            .output
            .print("plastron.host.v1.ListHostsResponse", &response, || {
                let mut text = format!("Found {} host(s)\n\n", response.hosts.len());
                text.extend(response.hosts.iter().map(|host| pretty(host) + "\n"));
                text
            })
    }

    fn enrolment(&self) -> Enrolment {
        match (self.pending, self.enrolled) {
            (true, _) => Enrolment::Pending,
            (false, true) => Enrolment::Enrolled,
            (false, false) => Enrolment::Unspecified,
        }
    }
}

/// Every host, page by page.
async fn all_hosts(client: Client, enrolment: Enrolment) -> Result<Vec<Host>, CommandError> {
    let mut client = hosts(client);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListHostsRequest {
            enrolment: enrolment.into(),
            page_size: PAGE,
            page_token,
        };
        let page = client.list_hosts(request).await?.into_inner();
        found.extend(page.hosts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn hosts(client: Client) -> HostsClient<Client> {
    HostsClient::new(client).max_decoding_message_size(MAX_ANSWER)
}

fn pretty(host: &Host) -> String {
    let time = |seconds| Timestamp::from_unix(seconds).to_string();
    let mut lines = vec![("Host ID", host.id.clone())];
    if !host.name.is_empty() {
        lines.push(("Name", host.name.clone()));
    }
    let enrolment = match host.enrolment() {
        Enrolment::Enrolled => "enrolled".into(),
        Enrolment::Pending => format!("pending, until {}", time(host.expires_at)),
        Enrolment::Unspecified => "unknown".into(),
    };
    lines.push(("Enrolment", enrolment));
    if host.enrolment() == Enrolment::Enrolled {
        lines.extend(host.verdict.iter().flat_map(pretty_verdict));
    }
    if let Some(Proposal { what, by, at }) = &host.proposal {
        let noted = format!(
            "{what}, by {by} at {}; another person has to order the same",
            time(*at)
        );
        lines.push(("Ordered", noted));
    }
    if let Some(alarm) = &host.alarm {
        let Alarm {
            code,
            text,
            at,
            count,
        } = alarm;
        lines.push((
            "Alarm",
            format!("{text} ({code}), at {}; {count} so far", time(*at)),
        ));
    }
    lines.extend(host.endorsement_keys.iter().flat_map(pretty_key));
    if !host.agent_id.is_empty() {
        lines.push(("Agent ID", host.agent_id.clone()));
    }
    if !host.attestation_key_name.is_empty() {
        lines.push(("AK name", host.attestation_key_name.clone()));
    }
    match host.svid_key() {
        SvidKeyPlace::Tpm => lines.push(("SVID key", "in the TPM".into())),
        SvidKeyPlace::Unproven => lines.push(("SVID key", "in memory, for all that is known".into())),
        SvidKeyPlace::Unspecified => {}
    }
    if !host.policies.is_empty() {
        lines.push(("Policies", host.policies.join(", ")));
    }
    lines.extend(host.appraisals.iter().flat_map(pretty_appraisal));
    lines.push(("Created", time(host.created_at)));
    if host.last_attested_at != 0 {
        lines.push(("Last attested", time(host.last_attested_at)));
    }
    if !host.last_address.is_empty() {
        lines.push(("Last address", host.last_address.clone()));
    }
    facts(&lines)
}

fn pretty_verdict(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let finding = match verdict.finding() {
        Finding::Quarantined => "quarantined",
        Finding::Stale => "stale",
        Finding::Verified => "verified",
        Finding::Unspecified => "unknown",
    };
    let why = if verdict.code.is_empty() {
        String::new()
    } else {
        format!(" ({})", verdict.code)
    };
    let since = Timestamp::from_unix(verdict.since);
    let mut lines = vec![("Verdict", format!("{finding}{why} since {since}"))];
    if !verdict.difference.is_empty() {
        lines.push(("Difference", verdict.difference.clone()));
    }
    lines
}

/// Under each policy: what follows, and what differs from which generation.
fn pretty_appraisal(appraisal: &Appraisal) -> Vec<(&'static str, String)> {
    let is_enforced = appraisal.judgements.iter().any(|one| one.is_enforced);
    let outcome = match (appraisal.is_met, is_enforced) {
        (true, _) => "met",
        (false, true) => "not met",
        (false, false) => "only watched",
    };
    let since = Timestamp::from_unix(appraisal.since);
    let head = ("Policy", format!("{}: {outcome} since {since}", appraisal.policy));
    let judgements = appraisal.judgements.iter().flat_map(|judgement| {
        let stage = if judgement.is_enforced {
            "enforced"
        } else {
            "staged"
        };
        let which = format!("version {} ({stage})", judgement.version);
        let more = (judgement.more > 0).then(|| format!("{which}: and {} more", judgement.more));
        let texts = judgement.differences.iter();
        let lines: Vec<_> = texts.map(|text| format!("{which}: {text}")).chain(more).collect();
        lines.into_iter().map(|line| ("  differs from", line))
    });
    std::iter::once(head).chain(judgements).collect()
}

fn pretty_key(key: &EndorsementKey) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if !key.hash.is_empty() {
        lines.push(("EK hash", key.hash.clone()));
    }
    if !key.serial_number.is_empty() {
        let verified = if key.certificate_verified {
            ", verified"
        } else {
            ""
        };
        let certificate = format!("serial {} of {}{verified}", key.serial_number, key.issuer);
        lines.push(("EK certificate", certificate));
    }
    if !key.manufacturer.is_empty() {
        let said = [&key.manufacturer, &key.model, &key.firmware_version];
        let said = said.map(|text| printable(text.as_bytes()));
        lines.push(("TPM", said.join(" ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proto::plastron::host::v1::Judgement;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    fn check(args: &str, expected: Result<(), clap::error::ErrorKind>) {
        let parsed = Cli::try_parse_from(std::iter::once("host").chain(args.split(' ')));
        let outcome = parsed.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(outcome, expected, "{args}");
    }

    #[test]
    fn what_was_done_is_not_said_to_wait_though_something_else_does() {
        let mut host = Host::default();
        assert!(!waits(&host, "replace TPM"));
        host.proposal = Some(Proposal {
            what: "replace TPM by aa".into(),
            ..Proposal::default()
        });
        assert!(waits(&host, "replace TPM"));
        assert!(!waits(&host, "add endorsement key"));
        assert_eq!(said(false, "Done."), "Done.");
        assert!(said(true, "Done.").starts_with("Noted"));
    }

    #[test]
    fn hosts_are_told_apart_by_what_is_thought_of_them() {
        let all = [Thought::Quarantined, Thought::Stale, Thought::Verified];
        let of = |enrolment: Enrolment, finding: Finding| {
            let verdict = Some(Verdict {
                finding: finding.into(),
                ..Verdict::default()
            });
            let host = Host {
                enrolment: enrolment.into(),
                verdict,
                ..Host::default()
            };
            all.map(|thought| thought.is_of(&host))
        };
        let enrolled = |finding| of(Enrolment::Enrolled, finding);
        assert_eq!(enrolled(Finding::Quarantined), [true, false, false]);
        assert_eq!(enrolled(Finding::Stale), [false, true, false]);
        assert_eq!(enrolled(Finding::Verified), [false, false, true]);
        assert_eq!(
            of(Enrolment::Pending, Finding::Stale),
            [false; 3],
            "it may not attest yet"
        );
    }

    #[test]
    fn an_import_says_one_thing() {
        use clap::error::ErrorKind::{
            ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation,
        };
        let hash = "1".repeat(64);
        check(&format!("import --ek-hash {hash} --name db-1"), Ok(()));
        check("import --issuer CN=a --serial-number 0a", Ok(()));
        check("import --file -", Ok(()));
        check("import --ek-certificates d --path {name} --dry-run", Ok(()));
        check("import --ek-certificates d --file x", Err(ArgumentConflict));
        check("import --ek-certificates d --name x", Err(ArgumentConflict));
        check("import --platform-certificates d --platform-roots r", Ok(()));
        check("import --platform-certificates d --name x", Err(ArgumentConflict));
        check(
            "import --platform-certificates d --ek-certificates e",
            Err(ArgumentConflict),
        );
        check("import --platform-roots r", Err(MissingRequiredArgument));
        check("import", Err(MissingRequiredArgument));
        check("import --name db-1", Err(MissingRequiredArgument));
        check("import --issuer CN=a", Err(MissingRequiredArgument));
        check("import --serial-number 0a", Err(MissingRequiredArgument));
        check("import --ek-hash 11", Err(ValueValidation));
        check(
            &format!("import --ek-hash {hash} --file x"),
            Err(ArgumentConflict),
        );
        check("import --file x --name db-1", Err(ArgumentConflict));
        check("list --pending --enrolled", Err(ArgumentConflict));
        check("list --verdict quarantined --from 10.0.0.0/8", Ok(()));
        check("list --pending --verdict stale", Err(ArgumentConflict));
        check("list --verdict good", Err(InvalidValue));
    }

    #[test]
    fn an_approval_is_of_hosts_by_identifier_or_of_all_that_are_meant() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        check("approve --id a --name db-1", Ok(()));
        check("approve --id a --id b", Ok(()));
        check("approve --all --yes", Ok(()));
        check("approve --from 10.0.0.0/8 --certified", Ok(()));
        check("approve --all --older-than 1h", Ok(()));
        check("list --pending --from 10.0.0.1 --manufacturer STM", Ok(()));
        check("approve", Err(MissingRequiredArgument));
        check("approve --yes", Err(MissingRequiredArgument));
        check("approve --id a --certified", Err(ArgumentConflict));
        check("approve --id a --all", Err(ArgumentConflict));
        check("approve --certified --name db-1", Err(ArgumentConflict));
        let hash = "1".repeat(64);
        check(&format!("replace-tpm --id a --ek {hash} --keep-old"), Ok(()));
        check("add-ek --id a --ek-certificate f", Ok(()));
        check("remove-ek --id a", Err(MissingRequiredArgument));
        check(
            &format!("add-ek --id a --ek {hash} --ek-certificate f"),
            Err(ArgumentConflict),
        );
        check("approve --from nowhere", Err(ValueValidation));
        check("approve --manufacturer vendor", Err(ValueValidation));
    }

    #[test]
    fn a_host_is_shown_with_what_is_known_of_it() {
        let mut host = Host {
            id: "h".into(),
            enrolment: Enrolment::Pending.into(),
            endorsement_keys: vec![EndorsementKey {
                hash: "aa".into(),
                ..EndorsementKey::default()
            }],
            ..Host::default()
        };
        let expected = "\
Host ID   : h
Enrolment : pending, until 1970-01-01T00:00:00Z
EK hash   : aa
Created   : 1970-01-01T00:00:00Z
";
        assert_eq!(pretty(&host), expected);
        host.enrolment = Enrolment::Enrolled.into();
        host.endorsement_keys = vec![EndorsementKey {
            issuer: "CN=ca".into(),
            serial_number: "0a".into(),
            certificate_verified: true,
            issuer_key: String::new(),
            ..EndorsementKey::default()
        }];
        assert!(pretty(&host).contains("EK certificate : serial 0a of CN=ca, verified\n"));
        host.svid_key = SvidKeyPlace::Tpm.into();
        assert!(pretty(&host).contains("SVID key       : in the TPM\n"));
        host.alarm = Some(Alarm {
            code: "ek_of_other_host".into(),
            text: "two places".into(),
            at: 1,
            count: 2,
        });
        let alarm = ": two places (ek_of_other_host), at 1970-01-01T00:00:01Z; 2 so far";
        assert!(pretty(&host).contains(alarm));
        host.endorsement_keys[0].manufacturer = "id:53544D20".into();
        host.endorsement_keys[0].model = "ST\u{1b}33".into();
        let shown = pretty(&host);
        assert!(shown.contains("TPM            : id:53544D20 ST"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn what_differs_from_a_policy_is_shown_under_it() {
        let judgement = |version, is_enforced, differences: &[&str]| Judgement {
            version,
            is_enforced,
            differences: differences.iter().map(|&text| text.to_owned()).collect(),
            more: u32::from(!differences.is_empty()),
            ..Judgement::default()
        };
        let appraisal = Appraisal {
            policy: "rack-7".into(),
            since: 0,
            is_met: true,
            judgements: vec![
                judgement(1, true, &[]),
                judgement(2, false, &["PCR 4: expected a, found b"]),
            ],
        };
        let expected = "\
Policy         : rack-7: met since 1970-01-01T00:00:00Z
  differs from : version 2 (staged): PCR 4: expected a, found b
  differs from : version 2 (staged): and 1 more
";
        assert_eq!(facts(&pretty_appraisal(&appraisal)), expected);
    }
}
