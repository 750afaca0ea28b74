//! Policies on a server.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use edge::grpc::Client;
use proto::plastron::policy::v1::{
    ApplyPolicyRequest, ApplyPolicyResponse, AssignPoliciesRequest, Caution, ChangeResponse,
    GetPolicyRequest, LearnPolicyRequest, ListPoliciesRequest, ListPoliciesResponse, Policy,
    PromotePolicyRequest, RetirePolicyRequest, Stage as WireStage, StagePolicyRequest, TestPolicyRequest,
    TestPolicyResponse, policies_client::PoliciesClient,
};
use svid::Timestamp;

use super::read;
use crate::cli::{
    CommandError, Common,
    connect::block_on,
    output::{Output, note},
};

/// Stores a policy on the server. It is staged: what differs on hosts that are assigned to it is noted, and nothing
/// follows until it is promoted. Its version has to be newer than any before; what changes is printed.
///
///   plastron-server policy apply rack-7.toml --signature rack-7.sig
///
/// A signature is over what `policy show --canonical` prints, for example with
///   openssl pkeyutl -sign -rawin -inkey operator.pem -in rack-7.canonical -out rack-7.sig
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Apply {
    /// The policy.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The signature over the canonical form, where the server wants one; of ECDSA in DER.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Says which policies a host is held to. A host that has none of its own is held to those that are for all.
///
/// Assign a policy while it is staged: hosts show what it needs, and `host show` what differs, before anything follows. Of a
/// policy that is enforced already, hosts that do not meet it fall out, as with `promote`.
///
///   plastron-server policy assign --host 6f9c… --set rack-7
///   plastron-server policy assign --all --set base
///   plastron-server policy assign --host 6f9c… --set ''
#[derive(Args, Debug)]
#[command(verbatim_doc_comment, group(ArgGroup::new("whom").required(true).args(["host", "all"])))]
pub(in crate::cli) struct Assign {
    /// Identifier of the host, as `host list` shows it.
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// All hosts that have no policies of their own.
    #[arg(long)]
    all: bool,
    /// All of its policies, separated by commas; nothing for none.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    set: Vec<String>,
    #[command(flatten)]
    care: Care,
    #[command(flatten)]
    common: Common,
}

/// Lists the policies on the server, their generations, and how many hosts meet them.
#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    common: Common,
}

/// Enforces a staged generation: hosts have to meet it, or another one of that policy that is enforced. Hosts that do not
/// are quarantined, within seconds where their event log is on record. Those are listed first, and those of which too little
/// is on record to tell (a log, a PCR, the kernel's list); nothing is done if there are any, unless you accept that. A host
/// that is held to the policy while it is staged shows what it needs within an interval, and is listed as unknown no more.
///
///   plastron-server policy promote rack-7 --dry-run
///   plastron-server policy promote rack-7 --generation 77c2 --retire-others --accept-fall-out 3 --accept-unknown 1
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Promote {
    #[command(flatten)]
    which: Which,
    /// Retires the generations that were enforced before: without it hosts may meet those as well.
    #[arg(long)]
    retire_others: bool,
    #[command(flatten)]
    care: Care,
    #[command(flatten)]
    common: Common,
}

/// Forgets a generation, or with --all-generations the whole policy. Hosts that met only this one fall out, as with
/// `promote`; hosts that are held to a policy of which nothing is in use are held to nothing by it.
///
///   plastron-server policy retire rack-7 --generation 1f0a
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Retire {
    /// Name of the policy.
    #[arg(value_name = "NAME")]
    name: String,
    /// Which generation: how its identifier begins.
    #[arg(long, value_name = "HEX", required_unless_present = "all_generations")]
    generation: Option<String>,
    /// All of them.
    #[arg(long, conflicts_with = "generation")]
    all_generations: bool,
    #[command(flatten)]
    care: Care,
    #[command(flatten)]
    common: Common,
}

/// Puts an enforced generation back to being watched only.
///
///   plastron-server policy stage rack-7 --generation 1f0a
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Stage {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    care: Care,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Which {
    /// Name of the policy.
    #[arg(value_name = "NAME")]
    name: String,
    /// Which generation, where there are several: how its identifier begins.
    #[arg(long, value_name = "HEX", default_value = "")]
    generation: String,
}

/// What is to be thought of before a change.
#[derive(Args, Debug)]
struct Care {
    /// Only lists the hosts that would fall out.
    #[arg(long)]
    dry_run: bool,
    /// Makes the change even if so many hosts fall out.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    accept_fall_out: u32,
    /// Makes the change even if of so many hosts too little is on record to tell whether they fall out.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    accept_unknown: u32,
}

/// Largest answer: a policy with all its generations.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

fn policies(client: Client) -> PoliciesClient<Client> {
    PoliciesClient::new(client).max_decoding_message_size(MAX_ANSWER)
}

impl Apply {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        // What is wrong in it is said with its place in the file.
        super::read_policy(&self.policy)?;
        let text = String::from_utf8_lossy(&read(&self.policy)?).into_owned();
        let signature = self
            .signature
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        let request = ApplyPolicyRequest { text, signature };
        let applied = self
            .common
            .call(async |client| Ok(policies(client).apply_policy(request).await?))
            .await?
            .into_inner();
        let name = "plastron.policy.v1.ApplyPolicyResponse";
        self.common
            .output
            .print(name, &applied, || pretty_applied(&applied))
    }
}

fn pretty_applied(applied: &ApplyPolicyResponse) -> String {
    let mut lines = vec![format!("Staged as generation {}.", applied.generation)];
    lines.extend(applied.changes.iter().cloned());
    lines.extend(applied.policy.iter().map(pretty));
    lines.join("\n")
}

impl Assign {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let request = AssignPoliciesRequest {
            host_id: self.host.unwrap_or_default(),
            policies: self.set.into_iter().filter(|name| !name.is_empty()).collect(),
            caution: Some(self.care.caution()),
        };
        let answer = self
            .common
            .call(async |client| Ok(policies(client).assign_policies(request).await?))
            .await?;
        self.care
            .report(self.common.output, answer.get_ref(), "Assigned.")
    }
}

impl List {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let listed = self
            .common
            .call(async |client| Ok(policies(client).list_policies(ListPoliciesRequest {}).await?))
            .await?
            .into_inner();
        let name = "plastron.policy.v1.ListPoliciesResponse";
        self.common.output.print(name, &listed, || pretty_list(&listed))
    }
}

fn pretty_list(listed: &ListPoliciesResponse) -> String {
    let policies: Vec<_> = listed.policies.iter().map(pretty).collect();
    match policies.as_slice() {
        [] => "No policies.".into(),
        policies => policies.join("\n"),
    }
}

impl Promote {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let request = PromotePolicyRequest {
            name: self.which.name,
            generation: self.which.generation,
            retire_others: self.retire_others,
            caution: Some(self.care.caution()),
        };
        let answer = self
            .common
            .call(async |client| Ok(policies(client).promote_policy(request).await?))
            .await?;
        self.care
            .report(self.common.output, answer.get_ref(), "Enforced.")
    }
}

impl Retire {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let request = RetirePolicyRequest {
            name: self.name,
            generation: self.generation.unwrap_or_default(),
            caution: Some(self.care.caution()),
        };
        let answer = self
            .common
            .call(async |client| Ok(policies(client).retire_policy(request).await?))
            .await?;
        self.care.report(self.common.output, answer.get_ref(), "Retired.")
    }
}

impl Stage {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let request = StagePolicyRequest {
            name: self.which.name,
            generation: self.which.generation,
            caution: Some(self.care.caution()),
        };
        let answer = self
            .common
            .call(async |client| Ok(policies(client).stage_policy(request).await?))
            .await?;
        self.care.report(self.common.output, answer.get_ref(), "Staged.")
    }
}

impl Care {
    const fn caution(&self) -> Caution {
        Caution {
            dry_run: self.dry_run,
            accept_fall_out: self.accept_fall_out,
            accept_unknown: self.accept_unknown,
        }
    }

    /// Says what became of a change. That it was not made is an error, unless nobody wanted it.
    fn report(&self, output: Output, answer: &ChangeResponse, done: &str) -> Result<(), CommandError> {
        output.print("plastron.policy.v1.ChangeResponse", answer, || {
            pretty_change(answer, if answer.is_done { done } else { "" })
        })?;
        if answer.is_done || self.dry_run {
            return Ok(());
        }
        note(&self.refused(answer));
        Err(CommandError::WouldFallOut)
    }

    /// Why nothing was changed, and what to do.
    fn refused(&self, answer: &ChangeResponse) -> String {
        let (count, unknown) = (answer.fall_out_count, answer.unknown);
        let falls_out = (count > 0).then(|| {
            (
                format!("{count} hosts would fall out"),
                format!("--accept-fall-out {count}"),
            )
        });
        let might = (unknown > 0).then(|| {
            (
                format!("of {unknown} hosts too little is on record to tell"),
                format!("--accept-unknown {unknown}"),
            )
        });
        let (why, accepting): (Vec<_>, Vec<_>) = falls_out.into_iter().chain(might).unzip();
        let what_to_do = if unknown > self.accept_unknown {
            "Have them held to it while it is staged, so that they show what is missing; or repeat"
        } else {
            "Repeat"
        };
        format!(
            "Nothing was changed: {}. {what_to_do} it with {} if that is right.",
            why.join(", and "),
            accepting.join(" ")
        )
    }
}

fn pretty_change(answer: &ChangeResponse, done: &str) -> String {
    let mut lines: Vec<_> = Some(done)
        .filter(|done| !done.is_empty())
        .map(str::to_owned)
        .into_iter()
        .collect();
    lines.push(format!("Hosts that fall out: {}.", answer.fall_out_count));
    let hosts = answer.fall_out.iter();
    lines.extend(hosts.map(|host| format!("{} {}: {}", host.host_id, host.host_name, host.difference)));
    if answer.unknown > 0 {
        let count = answer.unknown;
        lines.push(format!(
            "Hosts of which too little is on record; some of them may fall out when they show it: {count}."
        ));
        let hosts = answer.unknown_hosts.iter();
        lines.extend(hosts.map(|host| format!("{} {}: {}", host.host_id, host.host_name, host.missing)));
    }
    lines.extend(answer.policies.iter().map(pretty));
    lines.join("\n")
}

/// A policy for people.
pub(super) fn pretty(policy: &Policy) -> String {
    let for_all = if policy.is_default {
        ", for all hosts that have none of their own"
    } else {
        ""
    };
    let mut lines = vec![format!("Policy {}: {} hosts{for_all}", policy.name, policy.hosts)];
    if policy.generations.is_empty() {
        lines.push(format!(
            "  nothing in use; newest version was {}",
            policy.newest_version
        ));
    }
    for known in &policy.generations {
        let stage = match known.stage() {
            WireStage::Enforced => "enforced",
            WireStage::Staged => "staged",
            WireStage::Unspecified => "unknown",
        };
        let signed = if known.is_signed { ", signed" } else { "" };
        lines.push(format!(
            "  version {}, {stage} since {}, generation {}, applied by {}{signed}: met by {}, not met by {}",
            known.version,
            Timestamp::from_unix(known.since),
            known.id,
            known.applied_by,
            known.met_by,
            known.not_met_by,
        ));
    }
    lines.join("\n")
}

/// What the server behind `socket` has under `name`.
pub(super) fn get(socket: &Path, name: &str) -> Result<Policy, CommandError> {
    let request = GetPolicyRequest { name: name.into() };
    let answer =
        block_on(common(socket).call(async |client| Ok(policies(client).get_policy(request).await?)));
    Ok(answer?.into_inner())
}

/// What the server behind `socket` learns of a host.
pub(super) fn learn(socket: &Path, request: LearnPolicyRequest) -> Result<String, CommandError> {
    let answer =
        block_on(common(socket).call(async |client| Ok(policies(client).learn_policy(request).await?)));
    Ok(answer?.into_inner().text)
}

/// What differs between a policy and what the server behind `socket` has of a host.
pub(super) fn test(socket: &Path, request: TestPolicyRequest) -> Result<TestPolicyResponse, CommandError> {
    let answer =
        block_on(common(socket).call(async |client| Ok(policies(client).test_policy(request).await?)));
    Ok(answer?.into_inner())
}

fn common(socket: &Path) -> Common {
    Common {
        socket_path: socket.into(),
        output: Output::Pretty,
    }
}

#[cfg(test)]
mod tests;
