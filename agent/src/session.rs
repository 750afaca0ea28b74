//! The agent's side of the agent session.

use std::sync::Arc;

use edge::grpc::Client;
use proto::plastron::{
    agent::v1::{
        Ack, AgentMessage, KnownEntry, Open, ServerMessage, Update, agent_message::Message as ToServer,
        agent_session_client::AgentSessionClient, server_message::Message as FromServer,
    },
    attest::v1::Evidence,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::warn;

use crate::{
    cache::{CachedEntry, Pushed},
    link::Lost,
    wire,
};

/// An open session.
pub struct Session {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ServerMessage>,
    /// The parts of an update that is not complete yet.
    partial: Pushed,
    /// What was received and not acknowledged yet.
    owed: Option<u64>,
}

/// What the server says.
pub enum SessionEvent {
    /// Something changed.
    Pushed(Box<Pushed>),
    /// The host lost its standing.
    Withdrawn {
        /// Stable code.
        code: String,
    },
}

/// A session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection ended.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The server ended it.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl SessionError {
    /// What the server said, if it ended the session.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Lost(_) => None,
            Self::Refused(status) => Some(status),
        }
    }
}

/// Messages to the server that wait.
const QUEUE: usize = 16;
/// More known entries than this are not named: the server sends everything.
const MAX_KNOWN: usize = 100_000;

impl Session {
    /// Opens a session, saying which entries are known; with evidence where the host did not attest on this very
    /// connection, and has to. Answers with the Name of the endorsement key that the server has on record, too: empty
    /// for hosts without a TPM.
    ///
    /// # Errors
    ///
    /// The server refuses it.
    pub async fn open(
        client: Client,
        known: Vec<(Arc<str>, i64)>,
        evidence: Option<Evidence>,
    ) -> Result<(Self, Vec<u8>), SessionError> {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let known = if known.len() > MAX_KNOWN {
            Vec::new()
        } else {
            known
        };
        let known = known
            .into_iter()
            .map(|(id, revision_number)| KnownEntry {
                id: id.as_ref().into(),
                revision_number,
            })
            .collect();
        let open = Open {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            known,
            evidence,
        };
        let message = AgentMessage {
            message: Some(ToServer::Open(open)),
        };
        outgoing.send(message).await.map_err(|_| Lost)?;
        let mut client = AgentSessionClient::new(client).max_decoding_message_size(MAX_UPDATE);
        let incoming = client.session(ReceiverStream::new(queue)).await?.into_inner();
        let mut session = Self {
            outgoing,
            incoming,
            partial: Pushed::default(),
            owed: None,
        };
        match session.receive().await? {
            FromServer::Welcome(welcome) => Ok((session, welcome.endorsement_key_name)),
            _ => Err(Status::internal("server did not begin the session with `welcome`").into()),
        }
    }

    /// The next thing that the server says. Can be dropped and called again without losing anything.
    ///
    /// # Errors
    ///
    /// The session is over.
    pub async fn next(&mut self) -> Result<SessionEvent, SessionError> {
        loop {
            match self.receive().await? {
                FromServer::Update(update) => {
                    let (more, revision) = (update.more, update.revision);
                    self.collect(update);
                    if !more {
                        self.owed = Some(revision);
                        return Ok(SessionEvent::Pushed(Box::new(std::mem::take(&mut self.partial))));
                    }
                }
                FromServer::Welcome(_) => {}
                FromServer::Withdrawal(withdrawal) => {
                    return Ok(SessionEvent::Withdrawn {
                        code: withdrawal.code,
                    });
                }
            }
        }
    }

    /// Acknowledges what was received last.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub async fn acknowledge(&mut self) -> Result<(), Lost> {
        let Some(revision) = self.owed.take() else {
            return Ok(());
        };
        let message = AgentMessage {
            message: Some(ToServer::Ack(Ack { revision })),
        };
        self.outgoing.send(message).await.map_err(|_| Lost)
    }

    async fn receive(&mut self) -> Result<FromServer, SessionError> {
        let message = self.incoming.message().await?;
        Ok(message.and_then(|message| message.message).ok_or(Lost)?)
    }

    fn collect(&mut self, update: Update) {
        if let Some(bundle) = update.bundle {
            match wire::bundle(bundle) {
                Ok(bundle) => self.partial.bundle = Some(Arc::new(bundle)),
                Err(error) => warn!(error = %edge::Chain(&error), "Server's bundle can't be used"),
            }
        }
        for entry in update.entries {
            let id = entry.id.clone();
            match CachedEntry::try_from(entry) {
                Ok(entry) => self.partial.entries.push(entry),
                Err(error) => warn!(entry_id = id, error = %edge::Chain(&error), "Entry can't be used"),
            }
        }
        self.partial.removed.extend(update.removed_entry_ids);
    }
}

/// Largest update: a part of the entries.
const MAX_UPDATE: usize = 64 * 1024 * 1024;
