//! The Admin service.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use proto::plastron::admin::v1::{BackupChunk, BackupRequest, admin_server};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};
use tracing::info;

use super::{gate, status};
use crate::backup::{self, Spool};

pub(super) struct AdminService {
    pub(super) source: backup::Source,
    /// One backup at a time: each is a copy of everything.
    pub(super) turn: Arc<Semaphore>,
}

/// Bytes in a chunk.
const CHUNK: u64 = 256 * 1024;

#[async_trait]
impl admin_server::Admin for AdminService {
    async fn backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<BoxStream<BackupChunk>>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let turn = Arc::clone(&self.turn).try_acquire_owned();
        let turn = turn.map_err(|_| {
            Status::resource_exhausted("another backup is being taken; try again when it is done")
        })?;
        let taken = self.source.clone().take(&actor).await;
        let spool = taken.map_err(|error| status::not_taken(&error))?;
        info!(bytes = spool.len, "Backup taken");
        Ok(Response::new(chunks(spool, turn).boxed()))
    }
}

/// The file piece by piece; `turn` ends with it.
fn chunks(
    spool: Spool,
    turn: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<BackupChunk, Status>> + Send {
    let file = File::from_std(spool.file);
    futures::stream::try_unfold((file, spool.len, turn), |(mut file, file_len, turn)| async move {
        let mut data = Vec::new();
        let piece = (&mut file).take(CHUNK).read_to_end(&mut data).await;
        match piece {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((BackupChunk { data, file_len }, (file, file_len, turn)))),
            Err(error) => Err(status::not_taken(&error.into())),
        }
    })
}
