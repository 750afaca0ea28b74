//! SyncAuthorizedEntries: how an agent that polls learns what it may have, without being sent what it knows.
//!
//! Up to a page of entries comes whole, and the call is over. More come as revisions first; the agent then names
//! those it wants whole, as often as it likes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::Stream;
use proto::spire::api::{
    server::entry::v1::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
    types::EntryMask,
};
use svid::TrustDomain;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{
    entry::{PAGE, wire},
    status,
};
use crate::{
    authorize::Caller,
    registry::{Entry, Registry},
};

type Authorized = BTreeMap<String, Arc<Entry>>;

/// How long an agent may take to say what it wants.
const WITHIN: Duration = Duration::from_secs(60);

struct Conversation {
    registry: Registry,
    caller: Caller,
    trust_domain: TrustDomain,
    authorized: Authorized,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    mask: Option<EntryMask>,
    stage: Stage,
}

enum Stage {
    ExpectMask,
    /// Revisions, from the one after this identifier.
    Revisions(String),
    ExpectIds,
    /// Entries that are still to be sent of those asked for.
    Entries(Vec<String>),
    Over,
}

/// The server's side of a conversation, as a stream of what it says.
pub(super) fn conversation(
    registry: Registry,
    caller: Caller,
    authorized: Authorized,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
) -> impl Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send {
    let conversation = Conversation {
        trust_domain: registry.snapshot().trust_domain.clone(),
        registry,
        caller,
        authorized,
        requests,
        mask: None,
        stage: Stage::ExpectMask,
    };
    futures::stream::try_unfold(conversation, Conversation::advance)
}

type Said = Option<(SyncAuthorizedEntriesResponse, Conversation)>;

impl Conversation {
    async fn advance(self) -> Result<Said, Status> {
        let said = self.step().await?;
        if let Some((_, conversation)) = &said {
            // It may have been withdrawn since it called.
            let stands = conversation
                .caller
                .still_stands(&conversation.registry.snapshot());
            stands.map_err(|denied| status::denied(&denied))?;
        }
        Ok(said)
    }

    async fn receive(&mut self) -> Result<Option<SyncAuthorizedEntriesRequest>, Status> {
        let late = |_| Status::deadline_exceeded("no message from agent in 60 s");
        timeout(WITHIN, self.requests.message()).await.map_err(late)?
    }

    async fn step(mut self) -> Result<Said, Status> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Ok(None),
            Stage::ExpectMask => self.begin().await,
            Stage::Revisions(after) => Ok(self.revisions(&after)),
            Stage::ExpectIds => match self.receive().await? {
                None => Ok(None),
                Some(request) => {
                    let wanted = self.known(request.ids);
                    Ok(self.entries(wanted))
                }
            },
            Stage::Entries(wanted) => Ok(self.entries(wanted)),
        }
    }

    async fn begin(mut self) -> Result<Said, Status> {
        let Some(request) = self.receive().await? else {
            return Ok(None);
        };
        if !request.ids.is_empty() {
            return Err(Status::invalid_argument(
                "specifying IDs on initial request is not supported",
            ));
        }
        if request.output_mask.is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("revision number cannot be masked"));
        }
        self.mask = request.output_mask;
        if self.authorized.len() > PAGE {
            return Ok(self.revisions(""));
        }
        let response = SyncAuthorizedEntriesResponse {
            entries: self
                .authorized
                .values()
                .map(|entry| wire(&self.trust_domain, entry, self.mask.as_ref()))
                .collect(),
            ..SyncAuthorizedEntriesResponse::default()
        };
        Ok(Some((response, self)))
    }

    fn revisions(mut self, after: &str) -> Said {
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let mut rest = self.authorized.range::<str, _>(from);
        let revision = |(id, entry): (&String, &Arc<Entry>)| EntryRevision {
            id: id.clone(),
            revision_number: entry.revision,
            created_at: entry.created_at.as_unix(),
        };
        let entry_revisions: Vec<_> = rest.by_ref().take(PAGE).map(revision).collect();
        let more = rest.next().is_some();
        let last = entry_revisions
            .last()
            .map(|revision| revision.id.clone())
            .unwrap_or_default();
        self.stage = if more {
            Stage::Revisions(last)
        } else {
            Stage::ExpectIds
        };
        let response = SyncAuthorizedEntriesResponse {
            entry_revisions,
            more,
            ..Default::default()
        };
        Some((response, self))
    }

    /// Those of `ids` that the agent may have, once each; in reverse, so that they are taken from the end.
    fn known(&self, mut ids: Vec<String>) -> Vec<String> {
        ids.retain(|id| self.authorized.contains_key(id));
        ids.sort_unstable();
        ids.dedup();
        ids.reverse();
        ids
    }

    fn entries(mut self, mut wanted: Vec<String>) -> Said {
        let page = wanted.split_off(wanted.len().saturating_sub(PAGE));
        let entries = page.iter().rev().filter_map(|id| self.authorized.get(id));
        let entries = entries
            .map(|entry| wire(&self.trust_domain, entry, self.mask.as_ref()))
            .collect();
        let more = !wanted.is_empty();
        self.stage = if more {
            Stage::Entries(wanted)
        } else {
            Stage::ExpectIds
        };
        Some((
            SyncAuthorizedEntriesResponse {
                entries,
                more,
                ..Default::default()
            },
            self,
        ))
    }
}
