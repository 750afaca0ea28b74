//! The task that keeps the authorities, and the server's own certificate, fresh.

use std::{io, sync::Arc, time::Duration};

use edge::{Chain, Clock, metrics::Gauge};
use plugin_api::{KeyError, KeyKind, KeyManager, UpstreamAuthority, UpstreamError};
use rustls_pki_types::CertificateDer;
use svid::{Timestamp, x509::PublicKey};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::{
    Authorities, AuthorityState, Ca, Command, CrlPaths, Order, OrderRefused, Outputs, Slot, Step, decide,
    pause::Pause,
    revocation::{Written, withdrawn},
    steps::{self, Kind, SERVER},
    waiting::{MOST_WAITING, Waiting},
};
use crate::{
    belief::Belief,
    issue::Lifetimes,
    journal::JournalError,
    registry::{ChangeError, Registry},
};

/// What the task works with.
pub struct RotationConfig {
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// Kind of X.509 authorities' keys.
    pub ca_key: KeyKind,
    /// Kind of JWT authorities' keys.
    pub jwt_key: KeyKind,
    /// The sequence number of the bundle that everyone who is known to rely on it has.
    pub confirmed: watch::Receiver<u64>,
    /// What operators order.
    pub orders: mpsc::Receiver<Command>,
    /// Where CRLs come from and go to.
    pub crl_paths: CrlPaths,
    /// Who signs X.509 authorities; they are roots if nobody does.
    pub upstream: Option<Arc<dyn UpstreamAuthority>>,
    /// Shows how far the wall clock is ahead while it is in doubt, in seconds.
    pub clock_ahead: Gauge,
}

/// The rotation task.
pub struct Rotation {
    pub(super) config: RotationConfig,
    pub(super) registry: Registry,
    pub(super) keys: Arc<dyn KeyManager>,
    /// The clock that is gone by: the wall clock, or the time that passed while that is in doubt.
    pub(super) clock: Clock,
    wall_clock: Clock,
    belief: Belief,
    /// The wall clock is not believed, and the operator was told.
    is_doubted: bool,
    pub(super) ca: Ca,
    pub(super) outputs: Outputs,
    pub(super) renew_certificate_at: Timestamp,
    pub(super) certificate_begins_at: Timestamp,
    /// Who signed the server's own certificate.
    pub(super) certificate_authority: String,
    pub(super) written_crls: Written,
    /// The clock shows less than when the signing authority began, and the operator was told.
    is_behind: bool,
    /// Orders that wait for a bundle to be everywhere.
    pub(super) waiting: Vec<Waiting>,
    /// The bundle with which keys were looked through last.
    tidied: Option<u64>,
}

/// A step could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The step could not be stored.
    #[error("cannot store the authority")]
    Change(#[from] ChangeError),
    /// The server's own certificate can't be made.
    #[error("cannot make the server's certificate: {0}")]
    Certificate(String),
    /// A CRL can't be signed.
    #[error("cannot make the CRL: {0}")]
    Crl(String),
    /// A CRL can't be written.
    #[error("cannot write the CRL's file")]
    CrlFile(#[source] io::Error),
    /// The key can't be made or found.
    #[error("cannot use the authority's key")]
    Key(#[from] KeyError),
    /// What was signed can't be looked up.
    #[error("cannot read the ledger")]
    Ledger(#[from] JournalError),
    /// An operator's order can't be carried out.
    #[error(transparent)]
    Refused(#[from] OrderRefused),
    /// The runtime is ending.
    #[error("server is stopping")]
    Stopping,
    /// The upstream authority does not sign.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(10);

impl Rotation {
    /// A task that keeps `registry`'s authorities fresh.
    #[must_use]
    pub fn new(
        config: RotationConfig,
        registry: Registry,
        keys: Arc<dyn KeyManager>,
        ca: Ca,
        clock: Clock,
        outputs: Outputs,
    ) -> Self {
        let renew_certificate_at = Timestamp::default();
        Self {
            config,
            registry,
            keys,
            clock,
            wall_clock: clock,
            belief: Belief::new(clock.moment()),
            is_doubted: false,
            ca,
            outputs,
            renew_certificate_at,
            certificate_begins_at: Timestamp::default(),
            is_behind: false,
            certificate_authority: String::new(),
            written_crls: Written::new(),
            waiting: Vec::new(),
            tidied: None,
        }
    }

    /// Rotates for ever.
    pub async fn run(mut self) {
        let mut confirmed = self.config.confirmed.clone();
        let mut snapshots = self.registry.subscribe();
        let mut pause = Pause::default();
        loop {
            self.watch_clock();
            self.obey_waiting().await;
            let advanced = self.advance().await;
            self.look_at_clock();
            let is_healthy = advanced.is_ok();
            let wait = match advanced {
                Ok(until) => {
                    pause.succeeded();
                    until
                        .since(self.clock.now())
                        .clamp(Duration::from_millis(100), LOOK)
                }
                Err(error) => {
                    let retry_in = pause.failed();
                    warn!(error = %Chain(&error), ?retry_in, "Authority rotation failed");
                    retry_in
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait.min(self.patience())) => {}
                changed = confirmed.changed() => if changed.is_err() { tokio::time::sleep(wait).await },
                Some(command) = self.config.orders.recv(), if self.waiting.len() < MOST_WAITING => {
                    self.watch_clock();
                    self.obey(command).await;
                }
                true = withdrawn(&mut snapshots), if is_healthy => {}
            }
        }
    }

    /// Takes every step that is due; answers when to look again.
    ///
    /// # Errors
    ///
    /// A step could not be taken; what was reached stands.
    pub async fn advance(&mut self) -> Result<Timestamp, RotationError> {
        let x509 = self.advance_kind::<CertificateDer<'static>>().await;
        let jwt = self.advance_kind::<PublicKey>().await;
        // What is there goes on, whatever keeps new ones from being made.
        let kept = self.keep().await;
        let next = x509?.min(jwt?);
        kept?;
        Ok(next.min(self.renew_certificate_at))
    }

    async fn keep(&mut self) -> Result<(), RotationError> {
        self.publish().await?;
        self.publish_crls().await?;
        self.tidy().await
    }

    /// Looks for keys that nobody needs after each change of the authorities.
    async fn tidy(&mut self) -> Result<(), RotationError> {
        let sequence = self.registry.snapshot().authorities.sequence;
        if self.tidied != Some(sequence) {
            self.discard_keys::<CertificateDer<'static>>().await?;
            self.discard_keys::<PublicKey>().await?;
            self.tidied = Some(sequence);
        }
        Ok(())
    }

    /// Goes by the time that passed while the clock is in doubt: what is forgotten by a clock that is wrong does not come
    /// back when it is right.
    fn watch_clock(&mut self) {
        let doubt = self.belief.look(self.wall_clock.moment());
        match doubt {
            Some(doubt) if !self.is_doubted => error!(
                ahead = ?doubt.ahead,
                believed_in = ?doubt.left,
                "Clock jumped ahead; authorities go on by the time that passed until it is believed. Set it right, unless \
                 it is now"
            ),
            None if self.is_doubted => info!("Clock is believed again"),
            _ => {}
        }
        let ahead = doubt.map_or(Duration::ZERO, |doubt| doubt.ahead).as_secs();
        self.config
            .clock_ahead
            .set(usize::try_from(ahead).unwrap_or(usize::MAX));
        self.is_doubted = doubt.is_some();
        self.clock = doubt.map_or(self.wall_clock, |doubt| Clock::carried_on(doubt.believed));
    }

    /// Says when the clock begins, and ceases, to show a time at which nobody takes what is signed.
    fn look_at_clock(&mut self) {
        let snapshot = self.registry.snapshot();
        let now = self.clock.now();
        let mut authorities = snapshot.authorities.x509.iter();
        let early = authorities.find(|one| one.state == AuthorityState::Active && now < one.not_before);
        match early {
            Some(authority) if !self.is_behind => error!(
                authority_id = authority.authority_id,
                begins_at = %authority.not_before,
                "Clock is behind the signing authority; set it right. If it is, it was ahead when the authority was made: \
                 prepare and activate another one"
            ),
            None if self.is_behind => info!("Clock is no longer behind the signing authority"),
            _ => {}
        }
        self.is_behind = early.is_some();
    }

    async fn advance_kind<K: Kind>(&self) -> Result<Timestamp, RotationError> {
        loop {
            let confirmed = *self.config.confirmed.borrow();
            let slots: Vec<Slot> = {
                let snapshot = self.registry.snapshot();
                K::of(&snapshot.authorities)
                    .iter()
                    .map(|authority| authority.slot(confirmed))
                    .collect()
            };
            match decide(&slots, Authorities::REFRESH_HINT, self.clock.now()) {
                Step::Wait(until) => return Ok(until),
                Step::Prepare => drop(steps::obey::<K>(self, Order::Prepare, SERVER).await?),
                Step::Activate(position) => steps::activate::<K>(self, position).await?,
                Step::Forget(position) => steps::forget::<K>(self, position).await?,
            }
        }
    }
}
