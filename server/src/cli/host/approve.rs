//! `host approve`: of one host, or of all that wait and are meant.

use std::io::{IsTerminal, stdin};

use clap::{ArgGroup, Args};
use edge::grpc::Client;
use proto::plastron::host::v1::{ApproveHostRequest, Enrolment, Host, ListHostsResponse};

use super::{all_hosts, filter, hosts, now, pretty};
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
    /// Approves what is listed without asking.
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
        let ids = self.meant().await?;
        let outcomes = self
            .common
            .call(async |client| Ok(approve(client, &ids).await))
            .await?;
        self.report(outcomes)
    }

    async fn approve_one(&self, id: String) -> Result<(), CommandError> {
        let request = ApproveHostRequest {
            id,
            name: self.name.clone(),
        };
        let host = self
            .common
            .call(async |client| Ok(hosts(client).approve_host(request).await?))
            .await?;
        self.common.print(host.get_ref(), "Host enrolled.")
    }

    /// The hosts to approve: those that were shown, and no others that came meanwhile.
    async fn meant(&self) -> Result<Vec<String>, CommandError> {
        if !self.id.is_empty() {
            return Ok(self.id.clone());
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
            confirm(waiting.len())?;
        }
        Ok(waiting.into_iter().map(|host| host.id).collect())
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

/// Asks whoever sits at the terminal.
fn confirm(count: usize) -> Result<(), CommandError> {
    if !stdin().is_terminal() {
        return Err(CommandError::Input(
            "nothing was approved: give --yes, or ask at a terminal".into(),
        ));
    }
    line(&format!("Approve these {count} host(s)? Type `yes`:"));
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(CommandError::Print)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(CommandError::Input("nothing was approved".into()))
    }
}

/// Approves hosts one after the other; that one can't be keeps no other from it.
async fn approve(client: Client, ids: &[String]) -> Vec<Outcome> {
    let mut client = hosts(client);
    let mut outcomes = Vec::with_capacity(ids.len());
    for id in ids {
        let request = ApproveHostRequest {
            id: id.clone(),
            name: String::new(),
        };
        let outcome = client.approve_host(request).await;
        outcomes.push(match outcome {
            Ok(host) => Ok(host.into_inner()),
            Err(status) => Err((id.clone(), status)),
        });
        if ids.len() > SHOWN_ABOVE {
            progress("hosts", outcomes.len(), ids.len());
        }
    }
    outcomes
}

/// How many hosts take so long that it is said how far it is.
const SHOWN_ABOVE: usize = 50;
