//! The Entry service.

use std::{collections::BTreeMap, sync::Arc};

use edge::Clock;
use proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
        BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
        GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
        ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
        batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response, entry_server,
    },
    types::{self, EntryMask},
};
use svid::TrustDomain;
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream};

use super::{filter, gate, page, status, sync};
use crate::{
    convert::{self, ALL_ENTRY_FIELDS, EntryFieldError},
    registry::{
        Draft, Entry, Registry, authorized_entries,
        changes::{self, Created},
        hardware::Mixed,
    },
};

pub(super) struct EntryService {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
}

/// Most entries on a page.
pub(super) const PAGE: usize = 500;
/// Most entries of a batch that are changed at once: a batch may be as long as its message, and others wait meanwhile.
const GROUP: usize = 500;

#[async_trait]
impl entry_server::Entry for EntryService {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let snapshot = self.registry.snapshot();
        let wire = request.into_inner().filter;
        let count = match &wire {
            None => snapshot.entries.len(),
            Some(_) => filter::count_entries(&snapshot.trust_domain, wire.as_ref())?
                .select(&snapshot.entries, "")
                .count(),
        };
        Ok(Response::new(CountEntriesResponse {
            count: page::count(count),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let snapshot = self.registry.snapshot();
        let filter = filter::list_entries(&snapshot.trust_domain, request.filter.as_ref())?;
        let matching = filter.select(&snapshot.entries, &request.page_token);
        let page = page::take(matching, request.page_size, PAGE, |entry| entry.id().as_ref())?;
        let entries = page
            .items
            .into_iter()
            .map(|entry| wire(&snapshot.trust_domain, entry, request.output_mask.as_ref()));
        Ok(Response::new(ListEntriesResponse {
            entries: entries.collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let snapshot = self.registry.snapshot();
        let entry = snapshot.entries.get(&request.id).ok_or_else(not_found)?;
        Ok(Response::new(wire(
            &snapshot.trust_domain,
            entry,
            request.output_mask.as_ref(),
        )))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let BatchCreateEntryRequest { entries, output_mask } = request.into_inner();
        let create = move |draft: &mut _, entry| create(draft, &entry, output_mask.as_ref(), &actor);
        let results = self.change_each(entries, create).await?;
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let (input, output) = (
            request.input_mask.unwrap_or(ALL_ENTRY_FIELDS),
            request.output_mask,
        );
        let update = move |draft: &mut _, entry| update(draft, &entry, &input, output.as_ref(), &actor);
        let results = self.change_each(request.entries, update).await?;
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let ids = request.into_inner().ids;
        let delete = move |draft: &mut _, id| delete(draft, id, &actor);
        let results = self.change_each(ids, delete).await?;
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let authorized = self.authorized(&request)?;
        let mask = request.into_inner().output_mask;
        let trust_domain = self.registry.snapshot().trust_domain.clone();
        let entries = authorized
            .values()
            .map(|entry| wire(&trust_domain, entry, mask.as_ref()))
            .collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<BoxStream<SyncAuthorizedEntriesResponse>>, Status> {
        let authorized = self.authorized(&request)?;
        let caller = gate::caller(&request)?;
        Ok(Response::new(Box::pin(sync::conversation(
            self.registry.clone(),
            caller,
            authorized,
            request.into_inner(),
        ))))
    }
}

impl EntryService {
    /// What the calling agent may have, by identifier.
    fn authorized<T>(&self, request: &Request<T>) -> Result<BTreeMap<String, Arc<Entry>>, Status> {
        let caller = gate::caller(request)?;
        let agent = caller
            .agent()
            .ok_or_else(|| status::bug("entries without agent"))?;
        let snapshot = self.registry.snapshot();
        let entries = authorized_entries(&snapshot, agent, self.clock.now());
        Ok(entries
            .into_iter()
            .map(|entry| (entry.id().as_ref().to_owned(), entry))
            .collect())
    }

    /// Has `change` made of each item, in order, a group after another.
    async fn change_each<T, R, F>(&self, items: Vec<T>, change: F) -> Result<Vec<R>, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(&mut Draft, T) -> R + Send + Sync + 'static,
    {
        let change = Arc::new(change);
        let mut results = Vec::with_capacity(items.len());
        let mut items = items.into_iter();
        while !items.as_slice().is_empty() {
            let group: Vec<_> = items.by_ref().take(GROUP).collect();
            let change = Arc::clone(&change);
            let changed = self.registry.change(move |draft| {
                let results = group.into_iter().map(|item| change(draft, item));
                results.collect::<Vec<_>>()
            });
            results.extend(changed.await.map_err(|error| status::not_changed(&error))?);
        }
        Ok(results)
    }
}

/// An entry as the wire has it.
pub(super) fn wire(trust_domain: &TrustDomain, entry: &Entry, mask: Option<&EntryMask>) -> types::Entry {
    convert::mask_entry(convert::entry_to_wire(trust_domain, entry), mask)
}

fn create(
    draft: &mut Draft,
    new: &types::Entry,
    mask: Option<&EntryMask>,
    actor: &str,
) -> batch_create_entry_response::Result {
    let trust_domain = draft.state().trust_domain.clone();
    let id = if new.id.is_empty() {
        page::new_id()
    } else {
        new.id.clone()
    };
    let parsed = convert::entry_from_wire(
        &trust_domain,
        id.into(),
        new,
        &ALL_ENTRY_FIELDS,
        &Entry::default(),
    );
    let (status, entry) = match parsed.map(|entry| changes::create_entry(draft, entry, actor)) {
        Ok(Created::New(entry)) => (status::item_ok(), Some(entry)),
        Ok(Created::AlreadyExists(entry)) => (
            status::item(&Status::already_exists("similar entry already exists")),
            Some(entry),
        ),
        Ok(Created::IdTaken) => (
            status::item(&Status::already_exists("entry ID is already in use")),
            None,
        ),
        Ok(Created::Mixed(mixed)) => (status::item(&status::mixed(&mixed)), None),
        Err(error) => (status::item(&malformed(&error)), None),
    };
    let entry = entry.map(|entry| wire(&trust_domain, &entry, mask));
    batch_create_entry_response::Result {
        status: Some(status),
        entry,
    }
}

/// Why an entry stays as it is.
enum NotUpdated {
    Malformed(EntryFieldError),
    Mixed(Mixed),
}

impl From<Mixed> for NotUpdated {
    fn from(mixed: Mixed) -> Self {
        Self::Mixed(mixed)
    }
}

fn update(
    draft: &mut Draft,
    new: &types::Entry,
    input: &EntryMask,
    output: Option<&EntryMask>,
    actor: &str,
) -> batch_update_entry_response::Result {
    let trust_domain = draft.state().trust_domain.clone();
    let updated = changes::update_entry(draft, &new.id, actor, |old| {
        let parsed = convert::entry_from_wire(&trust_domain, Arc::clone(old.id()), new, input, old);
        parsed.map_err(NotUpdated::Malformed)
    });
    let (status, entry) = match updated {
        None => (status::item(&not_found()), None),
        Some(Err(NotUpdated::Malformed(error))) => (status::item(&malformed(&error)), None),
        Some(Err(NotUpdated::Mixed(mixed))) => (status::item(&status::mixed(&mixed)), None),
        Some(Ok(entry)) => (status::item_ok(), Some(wire(&trust_domain, &entry, output))),
    };
    batch_update_entry_response::Result {
        status: Some(status),
        entry,
    }
}

fn delete(draft: &mut Draft, id: String, actor: &str) -> batch_delete_entry_response::Result {
    let status = if id.is_empty() {
        status::item(&Status::invalid_argument("missing entry ID"))
    } else if changes::delete_entry(draft, &id, actor).is_some() {
        status::item_ok()
    } else {
        status::item(&not_found())
    };
    batch_delete_entry_response::Result {
        status: Some(status),
        id,
    }
}

fn malformed(error: &EntryFieldError) -> Status {
    status::invalid("failed to convert entry", error)
}

fn not_found() -> Status {
    Status::not_found("entry not found")
}
