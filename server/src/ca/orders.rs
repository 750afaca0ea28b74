//! How operators reach the rotation task.

use svid::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{Authority, AuthorityKind, Order, RotationError};

/// Gives orders to the rotation task. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct Orders {
    commands: mpsc::Sender<Command>,
}

/// An order that waits for the task.
#[derive(Debug)]
pub struct Command {
    pub(super) kind: AuthorityKind,
    pub(super) order: Order,
    /// Who ordered it.
    pub(super) actor: String,
    pub(super) reply: oneshot::Sender<Result<Ordered, RotationError>>,
}

/// The authority that an order was about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// What it is known by.
    pub authority_id: String,
    /// When it ends.
    pub not_after: Timestamp,
    /// Subject key identifier of the root that it rests on, in hex; empty if it is one.
    pub root_id: String,
}

/// Orders that wait; further callers wait in turn.
const QUEUE: usize = 16;

impl Orders {
    /// Orders, and the end at which the task takes them.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, taken) = mpsc::channel(QUEUE);
        (Self { commands }, taken)
    }

    /// Has an order carried out: it is durable, published and in effect on this server when this returns.
    ///
    /// # Errors
    ///
    /// It was not carried out.
    pub async fn give(
        &self,
        kind: AuthorityKind,
        order: Order,
        actor: String,
    ) -> Result<Ordered, RotationError> {
        let (reply, answer) = oneshot::channel();
        let command = Command {
            kind,
            order,
            actor,
            reply,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| RotationError::Stopping)?;
        answer.await.unwrap_or(Err(RotationError::Stopping))
    }
}

impl<M> From<&Authority<M>> for Ordered {
    fn from(authority: &Authority<M>) -> Self {
        Self {
            authority_id: authority.authority_id.clone(),
            not_after: authority.not_after,
            root_id: authority
                .upstream
                .as_ref()
                .map(|upstream| upstream.root_id.clone())
                .unwrap_or_default(),
        }
    }
}
