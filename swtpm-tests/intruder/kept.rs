//! A call that is begun, and made when it suits.

use edge::grpc::Client;
use proto::spire::api::server::entry::v1::{
    SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, entry_client::EntryClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// SyncAuthorizedEntries, of which the server waits for the first message.
pub(crate) struct Kept {
    requests: mpsc::Sender<SyncAuthorizedEntriesRequest>,
    responses: Streaming<SyncAuthorizedEntriesResponse>,
}

impl Kept {
    /// Opens the stream.
    pub(crate) async fn begin(client: Client) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(1);
        let mut entries = EntryClient::new(client);
        let responses = entries
            .sync_authorized_entries(ReceiverStream::new(queue))
            .await?
            .into_inner();
        Ok(Self { requests, responses })
    }

    /// Asks for the entries.
    pub(crate) async fn go_on(mut self) -> Result<(), Status> {
        let request = SyncAuthorizedEntriesRequest::default();
        if self.requests.send(request).await.is_err() {
            return Err(Status::cancelled("the stream is over"));
        }
        match self.responses.message().await? {
            Some(_) => Ok(()),
            None => Err(Status::cancelled("the stream is over")),
        }
    }
}
