//! Many entries in one command: requests of some hundred each, and a line for each that failed.

use edge::grpc::Client;
use proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, ListEntriesRequest,
        batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response,
        entry_client::EntryClient, list_entries_request::Filter,
    },
    types::{self, Entry},
};
use tonic::Status;

use super::{
    super::output::{note, progress},
    CommandError, PAGE,
};

/// How many entries go into one request: of the greatest usual length they stay below the limit of 4 MiB.
const BATCH: usize = 200;
/// Largest answer: a page of entries with hundreds of selectors each.
pub(super) const MAX_ANSWER: usize = 64 * 1024 * 1024;

pub(super) fn entries(client: Client) -> EntryClient<Client> {
    EntryClient::new(client).max_decoding_message_size(MAX_ANSWER)
}

/// All entries that `filter` lets through.
pub(super) async fn list(client: Client, filter: &Filter) -> Result<Vec<Entry>, CommandError> {
    let mut client = entries(client);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let page = client.list_entries(request).await?.into_inner();
        found.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

pub(super) async fn create(
    client: Client,
    new: &[Entry],
) -> Result<Vec<batch_create_entry_response::Result>, CommandError> {
    let mut client = entries(client);
    in_batches(new, "entries created", async |entries| {
        let request = BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        Ok(client.batch_create_entry(request).await?.into_inner().results)
    })
    .await
}

pub(super) async fn update(
    client: Client,
    changed: &[Entry],
) -> Result<Vec<batch_update_entry_response::Result>, CommandError> {
    let mut client = entries(client);
    in_batches(changed, "entries updated", async |entries| {
        let request = BatchUpdateEntryRequest {
            entries,
            input_mask: None,
            output_mask: None,
        };
        Ok(client.batch_update_entry(request).await?.into_inner().results)
    })
    .await
}

pub(super) async fn delete(
    client: Client,
    ids: &[String],
) -> Result<Vec<batch_delete_entry_response::Result>, CommandError> {
    let mut client = entries(client);
    in_batches(ids, "entries deleted", async |ids| {
        let request = BatchDeleteEntryRequest { ids };
        Ok(client.batch_delete_entry(request).await?.into_inner().results)
    })
    .await
}

async fn in_batches<T: Clone, R>(
    items: &[T],
    what: &str,
    mut send: impl AsyncFnMut(Vec<T>) -> Result<Vec<R>, Status>,
) -> Result<Vec<R>, CommandError> {
    let mut results = Vec::with_capacity(items.len());
    for batch in items.chunks(BATCH) {
        let answer = send(batch.to_vec()).await.inspect_err(|_| {
            if !results.is_empty() {
                note(&format!(
                    "The first {} of {} were looked at before this failed.",
                    results.len(),
                    items.len()
                ));
            }
        });
        results.extend(answer?);
        if items.len() > BATCH {
            progress(what, results.len(), items.len());
        }
    }
    Ok(results)
}

/// Says which items failed, a line each; an answer that is too short hides nothing.
pub(super) fn check<'a>(
    names: impl ExactSizeIterator<Item = String>,
    statuses: impl Iterator<Item = Option<&'a types::Status>>,
    what: &'static str,
) -> Result<(), CommandError> {
    let all = names.len();
    let statuses = statuses.chain(std::iter::repeat(None));
    let failures = names
        .zip(statuses)
        .filter_map(|(name, status)| failure(&name, status));
    let failed = failures.inspect(|failure| note(failure)).count();
    if failed == 0 {
        return Ok(());
    }
    Err(CommandError::Items { failed, all, what })
}

/// One line on an item that failed; nothing on one that did not.
fn failure(name: &str, status: Option<&types::Status>) -> Option<String> {
    let message = match status {
        Some(status) if status.code == 0 => return None,
        Some(status) => status.message.replace('\n', " "),
        None => "the server did not answer for it".into(),
    };
    Some(format!("{name}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_are_sent_in_order_and_none_is_lost() {
        let items: Vec<usize> = (0..2 * BATCH + 1).collect();
        let mut sizes = Vec::new();
        let results = in_batches(&items, "numbers", async |batch: Vec<usize>| {
            sizes.push(batch.len());
            Ok(batch)
        });
        assert_eq!(results.await.unwrap(), items);
        assert_eq!(sizes, [BATCH, BATCH, 1]);
    }

    #[test]
    fn each_failure_is_a_line() {
        let status = |code, message: &str| types::Status {
            code,
            message: message.into(),
        };
        let (good, bad) = (status(0, ""), status(6, "similar entry\nalready exists"));
        assert_eq!(failure("entries[0]", Some(&good)), None);
        assert_eq!(
            failure("entries[1]", Some(&bad)).unwrap(),
            "entries[1]: similar entry already exists"
        );
        let names = ["a", "b", "c"].map(String::from).into_iter();
        let error = check(names, [Some(&good), Some(&bad)].into_iter(), "created").unwrap_err();
        assert_eq!(error.to_string(), "2 of 3 could not be created");
    }
}
