//! `policy test`: whether evidence in files meets a policy.

use std::path::PathBuf;

use attest::policy::{Difference, Differences, Policy, judge};
use clap::{ArgGroup, Args};
use edge::json::pretty;
use proto::plastron::policy::v1::{self as wire, TestPolicyRequest, TestPolicyResponse};
use serde::Serialize;

use super::{evidence::EvidenceFiles, served, source::Source};
use crate::{
    cli::{
        CommandError,
        output::{self, Output},
    },
    config,
};

/// Tries a policy on the evidence of a host, and says what differs: expected, found, and which event. Exits with 0 if
/// the policy is met, with 1 if it is not or too little is known to tell, and with 2 if a file can't be used.
///
///   plastron-server policy test rack-7.toml --event-log log.bin --pcrs pcrs.yaml
///   plastron-server policy test server:rack-7@77c2 --host 6f9c…
///
/// With --host the server is asked what differs from what that host showed last, and what is not on record of it. Kernels'
/// lists are not: bring the one of that boot.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    group(ArgGroup::new("of").required(true).args(["host", "event_log"])),
    group(ArgGroup::new("proof").args(["host", "pcrs"]).multiple(true)),
)]
pub(in crate::cli) struct Test {
    /// The policy: a file, or server:NAME for the newest generation there, or server:NAME@GENERATION.
    #[arg(value_name = "POLICY")]
    policy: Source,
    /// Identifier of a host on the server, as `host list` shows it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["event_log", "pcrs", "tpm_firmware"])]
    host: Option<String>,
    /// The server's local socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    #[command(flatten)]
    evidence: EvidenceFiles,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// What became of a host.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    policy: String,
    version: u32,
    generation: String,
    pub(super) met: bool,
    pub(super) differences: Vec<Row>,
    /// How many differences are not named.
    more: u32,
    /// What the policy asks for, and nobody knows of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unknown: Vec<String>,
}

/// A difference.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) code: String,
    subject: String,
    expected: String,
    pub(super) found: String,
    /// Position of the event in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pcr: Option<u8>,
    /// The difference as a sentence.
    text: String,
}

impl Test {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let outcome = self.outcome()?;
        match self.output {
            Output::Json => output::line(&pretty(&outcome)?),
            Output::Pretty => outcome.lines().for_each(|line| output::line(&line)),
        }
        if outcome.met {
            Ok(())
        } else {
            Err(CommandError::PolicyNotMet)
        }
    }

    pub(super) fn outcome(&self) -> Result<Outcome, CommandError> {
        let found = self.policy.read(&self.socket_path)?;
        if let Some(host) = &self.host {
            let request = TestPolicyRequest {
                host_id: host.clone(),
                text: found.text,
                command_line: self.evidence.command_line().unwrap_or_default().into(),
                kernel_list: self.evidence.kernel_list()?,
            };
            let answer = served::test(&self.socket_path, request)?;
            return Ok(Outcome::served(&found.policy, answer));
        }
        let known = self.evidence.read()?;
        let differences: Differences = judge(&found.policy, &known.evidence()?);
        let rows = differences.iter().map(Row::of).collect();
        Ok(Outcome::of(&found.policy, rows, differences.more()))
    }
}

impl Outcome {
    fn of(policy: &Policy, differences: Vec<Row>, more: u32) -> Self {
        Self {
            policy: policy.name.to_string(),
            version: policy.version,
            generation: policy.generation_id().to_string(),
            met: differences.is_empty() && more == 0,
            differences,
            more,
            unknown: Vec::new(),
        }
    }

    /// What a server says.
    pub(super) fn served(policy: &Policy, answer: TestPolicyResponse) -> Self {
        let rows = answer.differences.into_iter().map(Row::served).collect();
        let outcome = Self::of(policy, rows, answer.more);
        Self {
            met: outcome.met && answer.unknown.is_empty(),
            unknown: answer.unknown,
            ..outcome
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let verdict = match (self.met, self.differences.is_empty()) {
            (true, _) => "meets",
            (false, true) => "may meet, or not,",
            (false, false) => "does not meet",
        };
        let head = format!("The host {verdict} {}, version {}.", self.policy, self.version);
        let more = (self.more > 0).then(|| format!("And {} more.", self.more));
        let rows = self
            .differences
            .iter()
            .map(|row| format!("{}: {}", row.code, row.text));
        let unknown = self.unknown.iter().map(|text| format!("unknown: {text}"));
        std::iter::once(head).chain(rows).chain(more).chain(unknown)
    }
}

impl Row {
    fn served(difference: wire::Difference) -> Self {
        Self {
            code: difference.code,
            subject: difference.subject,
            expected: difference.expected,
            found: difference.found,
            event: difference.place.map(|place| place.event),
            pcr: difference.place.and_then(|place| u8::try_from(place.pcr).ok()),
            text: difference.text,
        }
    }

    fn of(difference: &Difference) -> Self {
        Self {
            code: difference.kind.code().into(),
            subject: difference.subject.clone(),
            expected: difference.expected.clone(),
            found: difference.found.clone(),
            event: difference.event.map(|place| place.index),
            pcr: difference.event.map(|place| place.pcr),
            text: difference.to_string(),
        }
    }
}
