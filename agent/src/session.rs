//! The agent's side of the agent session.

use std::sync::Arc;

use edge::grpc::Client;
use proto::plastron::{
    agent::v1::{
        Ack, AgentMessage, Answer, KnownEntry, Open, Question, Sealing, ServerMessage, Update,
        agent_message::Message as ToServer, agent_session_client::AgentSessionClient,
        server_message::Message as FromServer,
    },
    attest::v1::Evidence,
};
use svid::TrustDomain;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::error;

use crate::{
    cache::{CachedEntry, Pushed},
    link::Lost,
    wire::{self, UnusableBundle},
};

/// An open session.
pub struct Session {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ServerMessage>,
    /// The parts of an update that is not complete yet.
    partial: Pushed,
    trust_domain: TrustDomain,
    /// What the host may seal its state to.
    sealing: Option<Sealing>,
    /// The host's TPM may be another one than the server thinks.
    is_suspect: bool,
}

/// What the server says.
pub enum SessionEvent {
    /// The host is to show anew what it is.
    Asked(Question),
    /// Something changed.
    Pushed {
        /// What.
        pushed: Box<Pushed>,
        /// What to acknowledge once it is in effect.
        revision: u64,
    },
    /// The host lost its standing.
    Withdrawn {
        /// Stable code.
        code: String,
    },
}

/// A session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// What workloads verify others with can't be used; the server must not count on it.
    #[error(transparent)]
    Bundle(#[from] UnusableBundle),
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
            Self::Bundle(_) | Self::Lost(_) => None,
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
        trust_domain: TrustDomain,
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
            trust_domain,
            sealing: None,
            is_suspect: false,
        };
        match session.receive().await? {
            FromServer::Welcome(welcome) => {
                session.sealing = welcome.sealing;
                Ok((session, welcome.endorsement_key_name))
            }
            _ => Err(Status::internal("server did not begin the session with `welcome`").into()),
        }
    }

    /// What the host may seal its state to, as the server said when it began.
    #[must_use]
    pub const fn sealing(&self) -> Option<&Sealing> {
        self.sealing.as_ref()
    }

    /// Notes that the host's TPM may be another one than the server thinks: nothing is sealed to what that accepted.
    pub fn suspect(&mut self) {
        (self.is_suspect, self.sealing) = (true, None);
    }

    /// Whether that was noted.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.is_suspect
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
                    collect(&mut self.partial, update, &self.trust_domain)?;
                    if !more {
                        let pushed = Box::new(std::mem::take(&mut self.partial));
                        return Ok(SessionEvent::Pushed { pushed, revision });
                    }
                }
                FromServer::Question(mut question) => {
                    question.sealing.take_if(|_| self.is_suspect);
                    return Ok(SessionEvent::Asked(question));
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

    /// Says that everything up to `revision` is in effect.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub async fn acknowledge(&self, revision: u64) -> Result<(), Lost> {
        let message = AgentMessage {
            message: Some(ToServer::Ack(Ack { revision })),
        };
        self.outgoing.send(message).await.map_err(|_| Lost)
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub async fn answer(&self, answer: Answer) -> Result<(), Lost> {
        let message = AgentMessage {
            message: Some(ToServer::Answer(answer)),
        };
        self.outgoing.send(message).await.map_err(|_| Lost)
    }

    async fn receive(&mut self) -> Result<FromServer, SessionError> {
        let message = self.incoming.message().await?;
        Ok(message.and_then(|message| message.message).ok_or(Lost)?)
    }
}

/// Adds one update to what came of its revision before.
fn collect(partial: &mut Pushed, update: Update, trust_domain: &TrustDomain) -> Result<(), UnusableBundle> {
    if let Some(bundle) = update.bundle {
        partial.bundle = Some(Arc::new(wire::bundle(bundle, trust_domain)?));
    }
    if let Some(crls) = update.crls {
        partial.crls = Some(crls.der.into());
    }
    for entry in update.entries {
        let id = entry.id.clone();
        match CachedEntry::try_from(entry) {
            Ok(entry) => partial.entries.push(entry),
            Err(error) => {
                // What it was before is no more, whatever it is now.
                error!(entry_id = id, error = %edge::Chain(&error), "Entry can't be used; nobody gets its SVID");
                partial.removed.push(id);
            }
        }
    }
    partial.removed.extend(update.removed_entry_ids);
    Ok(())
}

/// Largest update: a part of the entries.
const MAX_UPDATE: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proto::spire::api::types;

    use super::*;

    fn entry(id: &str, path: &str) -> types::Entry {
        types::Entry {
            id: id.into(),
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "td".into(),
                path: path.into(),
            }),
            ..types::Entry::default()
        }
    }

    fn collected(update: Update) -> Result<Pushed, UnusableBundle> {
        let mut pushed = Pushed::default();
        let trust_domain = TrustDomain::parse("td").unwrap();
        collect(&mut pushed, update, &trust_domain).map(|()| pushed)
    }

    #[test]
    fn a_revision_that_cannot_be_used_takes_the_one_before_away() {
        let unusable = types::Entry {
            dns_names: vec!["-".into()],
            ..entry("names", "/web")
        };
        let pushed = collected(Update {
            entries: vec![entry("good", "/web"), entry("bad", "no path"), unusable],
            removed_entry_ids: vec!["gone".into()],
            ..Update::default()
        });
        let pushed = pushed.unwrap();
        let good: Vec<_> = pushed.entries.iter().map(|entry| entry.id.as_ref()).collect();
        assert_eq!(good, ["good"]);
        assert_eq!(pushed.removed, ["bad", "names", "gone"]);
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_not_acknowledged() {
        let bundle = Some(types::Bundle {
            trust_domain: "other".into(),
            ..types::Bundle::default()
        });
        let refused = collected(Update {
            bundle,
            ..Update::default()
        });
        assert!(matches!(refused, Err(UnusableBundle::Foreign(_))));
    }
}
