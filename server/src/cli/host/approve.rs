//! `host approve`: of one host, or of all that wait and are meant.

use std::io::{BufRead, IsTerminal, stdin};

use clap::{ArgGroup, Args};
use edge::grpc::Client;
use proto::plastron::host::v1::{ApproveHostRequest, Enrolment, GetHostRequest, Host, ListHostsResponse};

use super::{all_hosts, filter, hosts, now, pretty, said};
use crate::cli::{
    CommandError, Common,
    output::{line, note, progress},
};

#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("one").args(["id"]).conflicts_with("many")),
    group(ArgGroup::new("many").args(["all"]).args(filter::OPTIONS).multiple(true)),
    group(ArgGroup::new("which").args(["id", "all"]).args(filter::OPTIONS).multiple(true).required(true)),
)]
pub(in crate::cli) struct Approve {
    /// Identifier of the host, as `host list` shows it; may be repeated.
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// What to call the host from now on.
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "many")]
    name: String,
    /// Every host that waits.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: filter::Filter,
    /// Approves what is shown without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

/// What became of a host.
type Outcome = Result<Host, (String, tonic::Status)>;

impl Approve {
    pub(in crate::cli) async fn execute(self) -> Result<(), CommandError> {
        if self.id.len() > 1 && !self.name.is_empty() {
            return Err(CommandError::Input("a name is for one host".into()));
        }
        if let [id] = self.id.as_slice() {
            return self.approve_one(id.clone()).await;
        }
        let meant = self.meant().await?;
        let outcomes = self
            .common
            .call(async |client| Ok(approve(client, &meant).await))
            .await?;
        self.report(outcomes)
    }

    async fn approve_one(&self, id: String) -> Result<(), CommandError> {
        let shown = self.look_at(&id).await?;
        let request = ApproveHostRequest {
            id,
            name: self.name.clone(),
            shown,
        };
        let host = self
            .common
            .call(async |client| Ok(hosts(client).approve_host(request).await?))
            .await?;
        let host = host.get_ref();
        let is_noted = host.enrolment() == Enrolment::Pending;
        self.common.print(host, said(is_noted, "Host enrolled."))
    }

    /// Shows what another person ordered of the host, and asks whether that is meant. Answers with what was shown.
    async fn look_at(&self, id: &str) -> Result<String, CommandError> {
        let request = GetHostRequest { id: id.into() };
        let host = self
            .common
            .call(async |client| Ok(hosts(client).get_host(request).await?))
            .await?
            .into_inner();
        let waits = host.proposal.is_some() && host.enrolment() == Enrolment::Pending;
        if waits {
            note(&pretty(&host));
            if !self.yes {
                ask(1)?;
            }
        }
        Ok(ordered(host))
    }

    /// The hosts to approve, with what was shown of each: those that were shown, and no others that came meanwhile.
    async fn meant(&self) -> Result<Vec<(String, String)>, CommandError> {
        if !self.id.is_empty() {
            let mut meant = Vec::with_capacity(self.id.len());
            for id in &self.id {
                meant.push((id.clone(), self.look_at(id).await?));
            }
            return Ok(meant);
        }
        let mut waiting = self
            .common
            .call(async |client| all_hosts(client, Enrolment::Pending).await)
            .await?;
        let now = now();
        waiting.retain(|host| self.filter.matches(host, now));
        for host in &waiting {
            note(&pretty(host));
        }
        note(&format!("{} host(s) wait and are meant.", waiting.len()));
        if !waiting.is_empty() && !self.yes {
            ask(waiting.len())?;
        }
        let meant = waiting.into_iter().map(|host| (host.id.clone(), ordered(host)));
        Ok(meant.collect())
    }

    fn report(&self, outcomes: Vec<Outcome>) -> Result<(), CommandError> {
        let all = outcomes.len();
        let mut approved = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(host) => approved.push(host),
                Err((id, status)) => note(&format!("{id}: {}", status.message())),
            }
        }
        let response = ListHostsResponse {
            hosts: approved,
            next_page_token: String::new(),
        };
        let name = "plastron.host.v1.ListHostsResponse";
        let count = response.hosts.len();
        let is_enrolled = |host: &&Host| host.enrolment() == Enrolment::Enrolled;
        let enrolled = response.hosts.iter().filter(is_enrolled).count();
        self.common.output.print(name, &response, || {
            let waiting = count - enrolled;
            format!("Enrolled {enrolled} of {all} host(s); {waiting} wait for another person's order")
        })?;
        if count == all {
            return Ok(());
        }
        Err(CommandError::Items {
            failed: all - count,
            all,
            what: "approved",
        })
    }
}

/// What is sent back of a host that was shown.
fn ordered(host: Host) -> String {
    host.proposal.map(|proposal| proposal.what).unwrap_or_default()
}

/// Asks whoever sits at the terminal.
fn ask(count: usize) -> Result<(), CommandError> {
    let stdin = stdin();
    confirm(count, stdin.is_terminal(), &mut stdin.lock())
}

/// Goes on if `input`, at which somebody has to sit, says so.
fn confirm(count: usize, is_terminal: bool, input: &mut impl BufRead) -> Result<(), CommandError> {
    if !is_terminal {
        return Err(CommandError::Input(
            "nothing was approved: give --yes, or ask at a terminal".into(),
        ));
    }
    line(&format!("Approve these {count} host(s)? Type `yes`:"));
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(CommandError::Print)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(CommandError::Input("nothing was approved".into()))
    }
}

/// Approves hosts one after the other; that one can't be keeps no other from it.
async fn approve(client: Client, meant: &[(String, String)]) -> Vec<Outcome> {
    let mut client = hosts(client);
    let mut outcomes = Vec::with_capacity(meant.len());
    for (id, shown) in meant {
        let request = ApproveHostRequest {
            id: id.clone(),
            name: String::new(),
            shown: shown.clone(),
        };
        let outcome = client.approve_host(request).await;
        outcomes.push(match outcome {
            Ok(host) => Ok(host.into_inner()),
            Err(status) => Err((id.clone(), status)),
        });
        if meant.len() > SHOWN_ABOVE {
            progress("hosts", outcomes.len(), meant.len());
        }
    }
    outcomes
}

/// How many hosts take so long that it is said how far it is.
const SHOWN_ABOVE: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of this answer to the question, and of what is left unread.
    fn check(is_terminal: bool, mut answer: &[u8], expected: Result<(), &str>, left: &[u8]) {
        let confirmed = confirm(2, is_terminal, &mut answer);
        let said = confirmed.map_err(|error| error.to_string());
        assert_eq!(said.as_ref().map_err(String::as_str).copied(), expected);
        assert_eq!(answer, left);
    }

    #[test]
    fn only_yes_at_a_terminal_approves() {
        let no = Err("nothing was approved");
        check(true, b"yes\n", Ok(()), b"");
        check(true, b" yes \r\nmore", Ok(()), b"more");
        for answer in ["", "\n", "y\n", "Yes\n", "no\n", "yes, all\n"] {
            check(true, answer.as_bytes(), no, b"");
        }
        let unasked = Err("nothing was approved: give --yes, or ask at a terminal");
        check(false, b"yes\n", unasked, b"yes\n");
    }
}
