//! The task that keeps the authorities, and the server's own certificate, fresh.

use std::{sync::Arc, time::Duration};

use edge::{Chain, Clock, tls::Identity};
use plugin_api::{KeyError, KeyKind, KeyManager, Signer};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use svid::{Timestamp, renew_at, x509::PublicKey};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    Authorities, Ca, Signing, Slot, Step, X509Authority, decide,
    steps::{self, Kind},
};
use crate::{
    issue::Lifetimes,
    journal::Record,
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
}

/// The rotation task.
pub struct Rotation {
    pub(super) config: RotationConfig,
    pub(super) registry: Registry,
    pub(super) keys: Arc<dyn KeyManager>,
    pub(super) clock: Clock,
    ca: Ca,
    outputs: Outputs,
    renew_certificate_at: Timestamp,
}

/// Where the task publishes what others sign and serve with.
pub struct Outputs {
    /// The authority that signs.
    pub signing: watch::Sender<Option<Arc<Signing>>>,
    /// The server's own certificate.
    pub certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
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
    /// The key can't be made or found.
    #[error("cannot use the authority's key")]
    Key(#[from] KeyError),
    /// The runtime is ending.
    #[error("server is stopping")]
    Stopping,
}

/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

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
            ca,
            outputs,
            renew_certificate_at,
        }
    }

    /// Rotates for ever.
    pub async fn run(mut self) {
        let mut confirmed = self.config.confirmed.clone();
        loop {
            let wait = match self.advance().await {
                Ok(until) => until
                    .since(self.clock.now())
                    .clamp(Duration::from_millis(100), LOOK),
                Err(error) => {
                    warn!(error = %Chain(&error), retry_in = ?RETRY, "Authority rotation failed");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = confirmed.changed() => if changed.is_err() { tokio::time::sleep(wait).await },
            }
        }
    }

    /// Takes every step that is due; answers when to look again.
    ///
    /// # Errors
    ///
    /// A step could not be taken; what was reached stands.
    pub async fn advance(&mut self) -> Result<Timestamp, RotationError> {
        let x509 = self.advance_kind::<CertificateDer<'static>>().await?;
        let jwt = self.advance_kind::<PublicKey>().await?;
        self.publish_signing().await?;
        if self.renew_certificate_at <= self.clock.now() {
            self.renew_certificate().await?;
        }
        Ok(x509.min(jwt).min(self.renew_certificate_at))
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
                Step::Prepare => steps::prepare::<K>(self).await?,
                Step::Activate(position) => steps::activate::<K>(self, position).await?,
                Step::Forget(position) => steps::forget::<K>(self, position).await?,
            }
        }
    }

    /// Publishes the active X.509 authority, if it is not the published one already.
    async fn publish_signing(&mut self) -> Result<(), RotationError> {
        let snapshot = self.registry.snapshot();
        let Some(active) = snapshot.authorities.active_x509() else {
            return Ok(());
        };
        let published = self
            .outputs
            .signing
            .borrow()
            .as_ref()
            .map(|signing| signing.authority_id.clone());
        if published.as_ref() == Some(&active.authority_id) {
            return Ok(());
        }
        let Some(signer) = self.signer_of(active).await? else {
            error!(
                authority_id = active.authority_id,
                "Key of the signing authority is lost; it is replaced"
            );
            return steps::abandon::<CertificateDer<'static>>(self, &active.authority_id).await;
        };
        let certificate = active.material.clone();
        let signing = Signing::new(
            &certificate,
            Vec::new(),
            signer,
            active.not_after,
            active.authority_id.clone(),
        );
        let signing = signing.map_err(|error| RotationError::Certificate(Chain(&error).to_string()))?;
        info!(authority_id = active.authority_id, expires_at = %active.not_after, "Authority signs");
        self.outputs.signing.send_replace(Some(Arc::new(signing)));
        Ok(())
    }

    /// The key of an authority, if the key manager still has that very key.
    async fn signer_of(&self, authority: &X509Authority) -> Result<Option<Arc<dyn Signer>>, RotationError> {
        let keys = Arc::clone(&self.keys);
        let kept = tokio::task::spawn_blocking(move || keys.keys())
            .await
            .map_err(|_| RotationError::Stopping)??;
        let belongs = |signer: &&Arc<dyn Signer>| {
            let spki = signer.public_key().to_spki();
            authority.material.windows(spki.len()).any(|part| part == spki)
        };
        Ok(kept.get(&authority.key_id).filter(belongs).map(Arc::clone))
    }

    async fn renew_certificate(&mut self) -> Result<(), RotationError> {
        let failed = |error: &dyn std::error::Error| RotationError::Certificate(Chain(error).to_string());
        let signing = self.ca.signing().map_err(|error| failed(&error))?;
        let (template, pkcs8) = steps::server_template(self, self.ca.occasion(&signing))?;
        let signed = signing.sign(&template).map_err(|error| failed(&error))?;
        let record = Record::new("server_svid_issued", &"server");
        let issued = self
            .ca
            .release(vec![(signed, record)])
            .await
            .map_err(|error| failed(&error))?;
        let Some(svid) = issued.into_iter().next() else {
            return Err(RotationError::Stopping);
        };
        let identity = Identity::new(svid.chain, &pkcs8).map_err(|error| failed(&error))?;
        self.outputs
            .certificate
            .send_replace(Some(identity.certified_key()));
        self.renew_certificate_at = renew_at(svid.not_before, svid.not_after, u32::MAX / 2);
        Ok(())
    }
}
