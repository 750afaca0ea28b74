//! The steps of rotation, for authorities of either kind.

use std::sync::Arc;

use plugin_api::{KeyKind, Signer};
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use svid::{
    SpiffeId, Timestamp,
    x509::{PublicKey, SerialNumber, Template},
};
use tracing::info;

use super::{
    Authorities, AuthorityState, X509Authority,
    authorities::Authority,
    rotation::{Rotation, RotationError},
    sign::KeyAdapter,
};
use crate::{
    issue::{self, Occasion},
    journal::Record,
    registry::SERVER_PATH,
};

/// X.509 or JWT, by what verifies their signatures: what the steps need to know of the difference.
pub(super) trait Kind: Clone + Send + Sync + Sized + 'static {
    /// Names of its two key slots.
    const KEYS: [&'static str; 2];
    /// For logs and audit.
    const NAME: &'static str;

    fn of(authorities: &Authorities) -> &[Authority<Self>];
    fn of_mut(authorities: &mut Authorities) -> &mut Vec<Authority<Self>>;
    fn key_kind(rotation: &Rotation) -> KeyKind;
    /// Makes an authority that is not published yet.
    fn make(
        rotation: &Rotation,
        key_id: &str,
        signer: Arc<dyn Signer>,
    ) -> Result<Authority<Self>, RotationError>;
}

/// Makes a key in the slot that does not sign, and publishes an authority for it.
pub(super) async fn prepare<K: Kind>(rotation: &Rotation) -> Result<(), RotationError> {
    let key_id = free_key::<K>(&rotation.registry.snapshot().authorities);
    let keys = Arc::clone(&rotation.keys);
    let kind = K::key_kind(rotation);
    let made = tokio::task::spawn_blocking(move || keys.generate(key_id, kind)).await;
    let mut authority = K::make(rotation, key_id, made.map_err(|_| RotationError::Stopping)??)?;
    let id = authority.authority_id.clone();
    change::<K>(rotation, "authority_prepared", id, move |authorities, now| {
        authority.published_at = now;
        authority.published_sequence = authorities.sequence + 1;
        K::of_mut(authorities).push(authority);
    })
    .await
}

/// Lets a prepared authority sign, and the one before no more.
pub(super) async fn activate<K: Kind>(rotation: &Rotation, position: usize) -> Result<(), RotationError> {
    let Some(id) = id_at::<K>(rotation, position) else {
        return Ok(());
    };
    let wanted = id.clone();
    change::<K>(rotation, "authority_activated", id, move |authorities, _| {
        for authority in K::of_mut(authorities) {
            let activates = authority.authority_id == wanted;
            authority.state = match authority.state {
                _ if activates => AuthorityState::Active,
                AuthorityState::Active => AuthorityState::Old,
                state => state,
            };
        }
    })
    .await
}

/// Removes an authority from the bundle.
pub(super) async fn forget<K: Kind>(rotation: &Rotation, position: usize) -> Result<(), RotationError> {
    let Some(id) = id_at::<K>(rotation, position) else {
        return Ok(());
    };
    let wanted = id.clone();
    change::<K>(rotation, "authority_forgotten", id, move |authorities, _| {
        K::of_mut(authorities).retain(|authority| authority.authority_id != wanted);
    })
    .await
}

/// Stops signing with an authority whose key is lost; what it signed stays valid.
pub(super) async fn abandon<K: Kind>(rotation: &Rotation, id: &str) -> Result<(), RotationError> {
    let wanted = id.to_owned();
    change::<K>(
        rotation,
        "authority_key_lost",
        id.to_owned(),
        move |authorities, _| {
            let lost = K::of_mut(authorities)
                .iter_mut()
                .filter(|authority| authority.authority_id == wanted);
            lost.for_each(|authority| authority.state = AuthorityState::Old);
        },
    )
    .await
}

/// The server's own certificate to be, and its key in PKCS#8.
pub(super) fn server_template(
    rotation: &Rotation,
    occasion: Occasion,
) -> Result<(Template, Vec<u8>), RotationError> {
    let failed = |error: &dyn std::fmt::Display| RotationError::Certificate(error.to_string());
    let key = rcgen::KeyPair::generate().map_err(|error| failed(&error))?;
    let public_key = PublicKey::from_spki(&key.subject_public_key_info()).map_err(|error| failed(&error))?;
    let trust_domain = rotation.registry.snapshot().trust_domain.clone();
    let id = SpiffeId::new(trust_domain, SERVER_PATH).map_err(|error| failed(&error))?;
    let template = issue::server_svid(id, public_key, &rotation.config.lifetimes, occasion);
    Ok((template, key.serialize_der()))
}

async fn change<K: Kind>(
    rotation: &Rotation,
    event: &'static str,
    id: String,
    alter: impl FnOnce(&mut Authorities, Timestamp) + Send + 'static,
) -> Result<(), RotationError> {
    let changed_id = id.clone();
    let changed = rotation.registry.change(move |draft| {
        let mut authorities = (*draft.state().authorities).clone();
        alter(&mut authorities, draft.now());
        authorities.sequence += 1;
        draft.audit(
            Record::new(event, &"server")
                .with("kind", &K::NAME)
                .with("authority_id", &id),
        );
        draft.put_authorities(authorities);
    });
    changed.await?;
    info!(
        authority_id = changed_id,
        kind = K::NAME,
        event,
        "Authorities changed"
    );
    Ok(())
}

fn id_at<K: Kind>(rotation: &Rotation, position: usize) -> Option<String> {
    let snapshot = rotation.registry.snapshot();
    K::of(&snapshot.authorities)
        .get(position)
        .map(|authority| authority.authority_id.clone())
}

/// The key slot that the active authority does not use.
fn free_key<K: Kind>(authorities: &Authorities) -> &'static str {
    let [first, second] = K::KEYS;
    let mut active = K::of(authorities)
        .iter()
        .filter(|authority| authority.state == AuthorityState::Active);
    if active.any(|authority| authority.key_id == first) {
        second
    } else {
        first
    }
}

impl Kind for CertificateDer<'static> {
    const KEYS: [&'static str; 2] = ["x509-CA-A", "x509-CA-B"];
    const NAME: &'static str = "x509";

    fn of(authorities: &Authorities) -> &[Authority<Self>] {
        &authorities.x509
    }

    fn of_mut(authorities: &mut Authorities) -> &mut Vec<Authority<Self>> {
        &mut authorities.x509
    }

    fn key_kind(rotation: &Rotation) -> KeyKind {
        rotation.config.ca_key
    }

    fn make(
        rotation: &Rotation,
        key_id: &str,
        signer: Arc<dyn Signer>,
    ) -> Result<Authority<Self>, RotationError> {
        let id = rotation.registry.snapshot().trust_domain.id();
        let serial = SerialNumber::from_random(edge::random());
        let now = rotation.clock.now();
        let template = issue::authority(
            id,
            signer.public_key().clone(),
            rotation.config.lifetimes.ca,
            now,
            serial,
        );
        let failed =
            |error: &dyn std::error::Error| RotationError::Certificate(edge::Chain(error).to_string());
        let certificate = template
            .self_sign(&KeyAdapter(signer))
            .map_err(|error| failed(&error))?;
        X509Authority::describe(key_id.into(), &certificate).map_err(|error| failed(&error))
    }
}

impl Kind for PublicKey {
    const KEYS: [&'static str; 2] = ["JWT-Signer-A", "JWT-Signer-B"];
    const NAME: &'static str = "jwt";

    fn of(authorities: &Authorities) -> &[Authority<Self>] {
        &authorities.jwt
    }

    fn of_mut(authorities: &mut Authorities) -> &mut Vec<Authority<Self>> {
        &mut authorities.jwt
    }

    fn key_kind(rotation: &Rotation) -> KeyKind {
        rotation.config.jwt_key
    }

    fn make(
        rotation: &Rotation,
        key_id: &str,
        signer: Arc<dyn Signer>,
    ) -> Result<Authority<Self>, RotationError> {
        let now = rotation.clock.now();
        let name: [u8; 16] = edge::random();
        Ok(Authority {
            key_id: key_id.into(),
            authority_id: name.iter().map(|byte| format!("{byte:02x}")).collect(),
            material: signer.public_key().clone(),
            not_before: now,
            not_after: now.plus(rotation.config.lifetimes.ca),
            published_at: now,
            published_sequence: 0,
            state: AuthorityState::Prepared,
            tainted: false,
        })
    }
}
