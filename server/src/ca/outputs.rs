//! What rotation publishes: the authorities that sign, and the server's own certificate.

use std::sync::Arc;

use edge::{Chain, tls::Identity};
use plugin_api::Signer;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use svid::{renew_at, x509::PublicKey};
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    Authority, AuthorityState, JwtSigning, Rotation, RotationError, Signing, X509Authority,
    steps::{self, Kind},
};
use crate::{issue::Occasion, journal::Record};

/// Where the task publishes what others sign and serve with.
pub struct Outputs {
    /// The authority that signs X509-SVIDs.
    pub signing: watch::Sender<Option<Arc<Signing>>>,
    /// The authority that signs JWT-SVIDs.
    pub jwt_signing: watch::Sender<Option<Arc<JwtSigning>>>,
    /// The server's own certificate.
    pub certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
}

impl Rotation {
    /// Publishes what is not published already, and renews the server's certificate if that is due.
    pub(super) async fn publish(&mut self) -> Result<(), RotationError> {
        self.publish_x509().await?;
        self.publish_jwt().await?;
        let now = self.clock.now();
        // One that is still to begin was made while the clock was ahead.
        let is_due = self.renew_certificate_at <= now || now < self.certificate_begins_at;
        if is_due || self.is_certificate_doubtful() {
            self.renew_certificate().await?;
        }
        Ok(())
    }

    async fn publish_x509(&self) -> Result<(), RotationError> {
        let published = self.outputs.signing.borrow().clone();
        let published = published.as_ref().map(|signing| signing.authority_id.as_str());
        let Some((active, signer)) = self.newly_active::<CertificateDer<'static>>(published).await? else {
            return Ok(());
        };
        let signing = signing_of(active, signer)?;
        self.outputs.signing.send_replace(Some(Arc::new(signing)));
        Ok(())
    }

    async fn publish_jwt(&self) -> Result<(), RotationError> {
        let published = self.outputs.jwt_signing.borrow().clone();
        let published = published.as_ref().map(|signing| signing.authority_id.as_str());
        if let Some((active, signer)) = self.newly_active::<PublicKey>(published).await? {
            let signing = JwtSigning::new(signer, active.not_after, active.authority_id);
            self.outputs.jwt_signing.send_replace(Some(Arc::new(signing)));
        }
        Ok(())
    }

    /// The authority that signs, with its key, if it is not the one that is `published`.
    async fn newly_active<K: Kind>(
        &self,
        published: Option<&str>,
    ) -> Result<Option<(Authority<K>, Arc<dyn Signer>)>, RotationError> {
        let active = {
            let snapshot = self.registry.snapshot();
            let mut all = K::of(&snapshot.authorities).iter();
            all.find(|authority| authority.state == AuthorityState::Active)
                .cloned()
        };
        let Some(active) = active.filter(|active| published != Some(&active.authority_id)) else {
            return Ok(None);
        };
        let Some(signer) = self.signer_of(&active).await? else {
            error!(
                authority_id = active.authority_id,
                kind = K::NAME,
                "Key of the signing authority is lost; it is replaced"
            );
            steps::abandon::<K>(self, &active.authority_id).await?;
            return Ok(None);
        };
        info!(authority_id = active.authority_id, kind = K::NAME, expires_at = %active.not_after, "Authority signs");
        Ok(Some((active, signer)))
    }

    /// The key of an authority, if the key manager still has that very key.
    pub(super) async fn signer_of<K: Kind>(
        &self,
        authority: &Authority<K>,
    ) -> Result<Option<Arc<dyn Signer>>, RotationError> {
        let keys = Arc::clone(&self.keys);
        let kept = tokio::task::spawn_blocking(move || keys.keys())
            .await
            .map_err(|_| RotationError::Stopping)??;
        let belongs = |signer: &&Arc<dyn Signer>| authority.material.belongs(signer.public_key());
        Ok(kept.get(&authority.key_id).filter(belongs).map(Arc::clone))
    }

    /// Whether the server's certificate rests on an authority that is tainted or gone.
    fn is_certificate_doubtful(&self) -> bool {
        let snapshot = self.registry.snapshot();
        let is_its = |authority: &Authority<_>| authority.authority_id == self.certificate_authority;
        let authority = snapshot
            .authorities
            .x509
            .iter()
            .find(|authority| is_its(authority));
        authority.is_none_or(|authority| authority.tainted)
    }

    /// Who signs the server's own certificate: of the authorities that live as long as it, the one that was published
    /// first. Agents that were cut off while authorities changed know no other.
    async fn certificate_signing(&self) -> Result<Arc<Signing>, RotationError> {
        let ends = self.clock.now().plus(self.config.lifetimes.x509_svid);
        let snapshot = self.registry.snapshot();
        let good = snapshot.authorities.x509.iter().filter(|authority| {
            matches!(authority.state, AuthorityState::Active | AuthorityState::Old)
                && !authority.tainted
                && ends <= authority.not_after
        });
        if let Some(oldest) = good.min_by_key(|authority| authority.published_sequence)
            && let Some(signer) = self.signer_of(oldest).await?
        {
            return signing_of(oldest.clone(), signer).map(Arc::new);
        }
        let failed = |error| RotationError::Certificate(Chain(&error).to_string());
        self.ca.signing().map_err(failed)
    }

    async fn renew_certificate(&mut self) -> Result<(), RotationError> {
        let failed = |error: &dyn std::error::Error| RotationError::Certificate(Chain(error).to_string());
        let signing = self.certificate_signing().await?;
        let occasion = Occasion {
            now: self.clock.now(),
            ..self.ca.occasion(&signing)
        };
        let (template, pkcs8) = steps::server_template(self, occasion)?;
        let signed = signing.sign(&template).map_err(|error| failed(&error))?;
        let record = Record::new("server_svid_issued", &steps::SERVER);
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
        self.certificate_begins_at = svid.not_before;
        self.certificate_authority = svid.authority_id;
        Ok(())
    }
}

fn signing_of(authority: X509Authority, signer: Arc<dyn Signer>) -> Result<Signing, RotationError> {
    let own = authority.material.clone();
    let chain = authority
        .upstream
        .map(|upstream| std::iter::once(own).chain(upstream.chain).collect());
    let signing = Signing::new(
        &authority.material,
        chain.unwrap_or_default(),
        signer,
        authority.not_after,
        authority.authority_id,
    );
    signing.map_err(|error| RotationError::Certificate(Chain(&error).to_string()))
}
