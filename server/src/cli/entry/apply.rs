//! `entry apply`.

use std::path::PathBuf;

use clap::Args;
use edge::grpc::Client;
use proto::spire::api::server::entry::v1::list_entries_request::Filter;
use serde_json::{Value, json};
use svid::SpiffeId;

use super::{
    super::output::{Output, line},
    CommandError, Common, batch,
    file::{self, Listed},
    plan::{self, Plan, Prune, Update},
};

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// File of all entries that there shall be, in a form that `entry create --data` takes; `-` is standard input.
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Removes entries that the file does not name, if it names their parent: entries under other parents stay.
    #[arg(long)]
    prune: bool,
    /// Only entries with this parent are pruned, whether the file names it or not; may be repeated.
    #[arg(long, value_name = "ID", requires = "prune")]
    parent_id: Vec<SpiffeId>,
    /// Says what would be done, and does nothing. Exits with 2 if there is something to do.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl Apply {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let wanted = file::read_entries(&self.file)?;
        self.common
            .call(async |client| {
                let existing = batch::list(client.clone(), &Filter::default()).await?;
                let plan = plan::decide(&wanted, &existing, &self.prune())?;
                self.show(&plan)?;
                if self.dry_run {
                    return if plan.is_empty() {
                        Ok(())
                    } else {
                        Err(CommandError::Differs)
                    };
                }
                carry_out(client, &plan).await
            })
            .await
    }

    fn prune(&self) -> Prune {
        if !self.prune {
            Prune::Nothing
        } else if self.parent_id.is_empty() {
            Prune::ParentsOfFile
        } else {
            Prune::Under(self.parent_id.iter().map(ToString::to_string).collect())
        }
    }

    fn show(&self, plan: &Plan) -> Result<(), CommandError> {
        match self.common.output {
            Output::Json => line(&edge::json::pretty(&to_json(plan)?)?),
            Output::Pretty => line(&plan.to_string()),
        }
        Ok(())
    }
}

fn to_json(plan: &Plan) -> Result<Value, CommandError> {
    let entry = |entry| edge::json::print("spire.api.types.Entry", entry);
    let create = plan.create.iter().map(|new| entry(&new.entry));
    let change = |Update { new, changes }: &Update| {
        let changes = changes.iter();
        let changes = changes.map(|one| json!({"field": one.field, "old": one.old, "new": one.new}));
        json!({"id": new.entry.id, "changes": changes.collect::<Vec<_>>()})
    };
    Ok(json!({
        "create": create.collect::<Result<Vec<_>, _>>()?,
        "update": plan.update.iter().map(change).collect::<Vec<_>>(),
        "delete": plan.delete.iter().map(entry).collect::<Result<Vec<_>, _>>()?,
        "unchanged": plan.unchanged,
    }))
}

/// Removes last, so that a workload has its new entry before it loses the old one. What fails does not keep the
/// others from being done, but nothing is removed then.
async fn carry_out(client: Client, plan: &Plan) -> Result<(), CommandError> {
    let created = create(client.clone(), &plan.create).await;
    let updated = update(client.clone(), &plan.update).await;
    created.and(updated)?;
    delete(client, plan).await
}

async fn create(client: Client, new: &[Listed]) -> Result<(), CommandError> {
    let entries: Vec<_> = new.iter().map(|listed| listed.entry.clone()).collect();
    let results = batch::create(client, &entries).await?;
    let statuses = results.iter().map(|result| result.status.as_ref());
    let names = new.iter().map(|listed| listed.at.clone());
    batch::check(names, statuses, "created")
}

async fn update(client: Client, updates: &[Update]) -> Result<(), CommandError> {
    let entries: Vec<_> = updates.iter().map(|update| update.new.entry.clone()).collect();
    let results = batch::update(client, &entries).await?;
    let statuses = results.iter().map(|result| result.status.as_ref());
    let names = updates.iter().map(|update| update.new.at.clone());
    batch::check(names, statuses, "updated")
}

async fn delete(client: Client, plan: &Plan) -> Result<(), CommandError> {
    let ids: Vec<_> = plan.delete.iter().map(|entry| entry.id.clone()).collect();
    let results = batch::delete(client, &ids).await?;
    let statuses = results.iter().map(|result| result.status.as_ref());
    batch::check(ids.iter().cloned(), statuses, "deleted")
}
