//! The steps of rotation, for authorities of either kind.

use std::{sync::Arc, time::Duration};

use plugin_api::{KeyKind, Signer, UpstreamAuthority};
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use svid::{
    Bundle, SpiffeId, Timestamp, TrustDomain,
    x509::{PublicKey, SerialNumber, Template},
};
use tracing::info;

use super::{
    Authorities, AuthorityState, Crl, Order, OrderRefused, Ordered, X509Authority,
    authorities::Authority,
    revocation,
    rotation::{Rotation, RotationError},
    sign::KeyAdapter,
    slots, upstream,
};
use crate::{
    issue::{self, Occasion},
    journal::Record,
    registry::SERVER_PATH,
};

/// Who takes the steps that nobody ordered.
pub(super) const SERVER: &str = "server";

/// With so many authorities in the bundle operators may prepare no more: the server itself still has to.
const MOST_ORDERED: usize = Bundle::MAX_KEYS - 8;

/// X.509 or JWT, by what verifies their signatures: what the steps need to know of the difference.
pub(super) trait Kind: Clone + PartialEq + Send + Sync + Sized + 'static {
    /// Whether the key of an authority that no longer signs SVIDs is needed: for CRLs.
    const KEY_OUTLIVES_SIGNING: bool;
    /// What the names of its keys begin with.
    const KEYS: &'static str;
    /// For logs and audit.
    const NAME: &'static str;

    fn of(authorities: &Authorities) -> &[Authority<Self>];
    fn of_mut(authorities: &mut Authorities) -> &mut Vec<Authority<Self>>;
    fn key_kind(rotation: &Rotation) -> KeyKind;
    /// Whether the key is the authority's.
    fn belongs(&self, key: &PublicKey) -> bool;
    /// Makes an authority that is not published yet. May block.
    fn make(making: &Making, signer: &Arc<dyn Signer>) -> Result<Made<Self>, RotationError>;
    /// Makes the CRL that it is published with; JWT-SVIDs have none.
    fn first_crl(
        authority: &Authority<Self>,
        signer: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Option<Crl>, RotationError>;
}

/// What an authority is made with.
pub(super) struct Making {
    pub(super) key_id: String,
    pub(super) trust_domain: TrustDomain,
    /// How long it is to live.
    pub(super) life: Duration,
    /// Who signs it; itself, if nobody does.
    pub(super) upstream: Option<Arc<dyn UpstreamAuthority>>,
    pub(super) now: Timestamp,
}

/// An authority that is not published yet.
pub(super) struct Made<K> {
    pub(super) authority: Authority<K>,
    /// What is to be published for it; nothing where it is a root itself.
    pub(super) roots: Vec<Authority<K>>,
}

/// Carries out an order; `actor` gave it.
pub(super) async fn obey<K: Kind>(
    rotation: &Rotation,
    order: Order,
    actor: &str,
) -> Result<Ordered, RotationError> {
    let event = match order {
        Order::Activate(_) => "authority_activated",
        Order::Prepare => return prepare::<K>(rotation, actor).await,
        Order::Revoke(_) => "authority_revoked",
        Order::Taint(_) => "authority_tainted",
    };
    change::<K>(rotation, event, actor, move |authorities, now| {
        let all = K::of_mut(authorities);
        let about = order.decide(all, now)?;
        Ok(about.and_then(|position| carry_out(&order, all, position)))
    })
    .await
}

/// Makes a key in a slot that nobody needs, and publishes an authority for it, in place of one that was prepared
/// before and never signed.
async fn prepare<K: Kind>(rotation: &Rotation, actor: &str) -> Result<Ordered, RotationError> {
    let authorities = Arc::clone(&rotation.registry.snapshot().authorities);
    let count = authorities.count();
    if actor != SERVER && count >= MOST_ORDERED {
        return Err(OrderRefused::Full(count).into());
    }
    let now = rotation.clock.now();
    let making = Making {
        key_id: slots::free::<K>(&authorities, now),
        trust_domain: rotation.registry.snapshot().trust_domain.clone(),
        life: rotation.config.lifetimes.ca,
        upstream: rotation.config.upstream.clone(),
        now,
    };
    let (keys, kind) = (Arc::clone(&rotation.keys), K::key_kind(rotation));
    let made = tokio::task::spawn_blocking(move || {
        let signer = keys.generate(&making.key_id, kind)?;
        let made = K::make(&making, &signer)?;
        let crl = K::first_crl(&made.authority, signer, now)?;
        Ok::<_, RotationError>((made, crl))
    });
    let (Made { mut authority, roots }, crl) = made.await.map_err(|_| RotationError::Stopping)??;
    change_with_crl::<K>(
        rotation,
        "authority_prepared",
        actor,
        crl,
        move |authorities, now| {
            let sequence = authorities.sequence + 1;
            let all = K::of_mut(authorities);
            let rooted = upstream::publish(roots, all, now, sequence)?;
            authority.published_at = now;
            authority.published_sequence = rooted.unwrap_or(sequence);
            let prepared = Ordered::from(&authority);
            all.retain(|other| other.state != AuthorityState::Prepared);
            all.push(authority);
            Ok(Some(prepared))
        },
    )
    .await
}

fn carry_out<M>(order: &Order, all: &mut Vec<Authority<M>>, position: usize) -> Option<Ordered> {
    let ordered = all.get(position).map(Ordered::from)?;
    match order {
        Order::Activate(_) => {
            for (at, authority) in all.iter_mut().enumerate() {
                authority.state = match authority.state {
                    _ if at == position => AuthorityState::Active,
                    AuthorityState::Active => AuthorityState::Old,
                    state => state,
                };
            }
        }
        Order::Prepare => {}
        Order::Revoke(id) => {
            all.remove(position);
            all.retain(|authority| !authority.rests_on(id));
        }
        Order::Taint(id) => {
            all.get_mut(position)?.tainted = true;
            let resting = all.iter_mut().filter(|authority| authority.rests_on(id));
            resting.for_each(|authority| authority.tainted = true);
        }
    }
    Some(ordered)
}

/// Lets a prepared authority sign, and the one before no more.
pub(super) async fn activate<K: Kind>(rotation: &Rotation, position: usize) -> Result<(), RotationError> {
    let Some(id) = id_at::<K>(rotation, position) else {
        return Ok(());
    };
    obey::<K>(rotation, Order::Activate(id), SERVER).await.map(drop)
}

/// Removes an authority from the bundle.
pub(super) async fn forget<K: Kind>(rotation: &Rotation, position: usize) -> Result<(), RotationError> {
    let Some(id) = id_at::<K>(rotation, position) else {
        return Ok(());
    };
    change::<K>(rotation, "authority_forgotten", SERVER, move |authorities, _| {
        let all = K::of_mut(authorities);
        let position = all.iter().position(|authority| authority.authority_id == id);
        Ok(position.map(|position| Ordered::from(&all.remove(position))))
    })
    .await
    .map(drop)
}

/// Stops signing with an authority whose key is lost; what it signed stays valid.
pub(super) async fn abandon<K: Kind>(rotation: &Rotation, id: &str) -> Result<(), RotationError> {
    let id = id.to_owned();
    change::<K>(rotation, "authority_key_lost", SERVER, move |authorities, _| {
        let mut all = K::of_mut(authorities).iter_mut();
        let lost = all.find(|authority| authority.authority_id == id);
        Ok(lost.map(|lost| {
            lost.state = AuthorityState::Old;
            Ordered::from(&*lost)
        }))
    })
    .await
    .map(drop)
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

/// Changes the authorities, if `alter` finds the one that it is about.
async fn change<K: Kind>(
    rotation: &Rotation,
    event: &'static str,
    actor: &str,
    alter: impl FnOnce(&mut Authorities, Timestamp) -> Result<Option<Ordered>, OrderRefused> + Send + 'static,
) -> Result<Ordered, RotationError> {
    change_with_crl::<K>(rotation, event, actor, None, alter).await
}

/// Changes the authorities as [`change`] does; the one that it is about has this CRL from then on.
async fn change_with_crl<K: Kind>(
    rotation: &Rotation,
    event: &'static str,
    actor: &str,
    crl: Option<Crl>,
    alter: impl FnOnce(&mut Authorities, Timestamp) -> Result<Option<Ordered>, OrderRefused> + Send + 'static,
) -> Result<Ordered, RotationError> {
    let record = Record::new(event, &actor).with("kind", &K::NAME);
    let clock = rotation.clock;
    let changed = rotation.registry.change(move |draft| {
        let mut authorities = (*draft.state().authorities).clone();
        let ordered = alter(&mut authorities, clock.now())?;
        let ordered = ordered.ok_or_else(|| OrderRefused::Unknown(String::new()))?;
        authorities.sequence += 1;
        draft.audit(record.with("authority_id", &ordered.authority_id));
        draft.put_authorities(authorities);
        if let Some(crl) = crl {
            draft.audit(revocation::issued(&ordered.authority_id, &crl.content));
            draft.put_crl(&ordered.authority_id, crl);
        }
        Ok::<_, OrderRefused>(ordered)
    });
    let ordered = changed.await??;
    info!(
        authority_id = ordered.authority_id,
        kind = K::NAME,
        event,
        "Authorities changed"
    );
    Ok(ordered)
}

fn id_at<K: Kind>(rotation: &Rotation, position: usize) -> Option<String> {
    let snapshot = rotation.registry.snapshot();
    K::of(&snapshot.authorities)
        .get(position)
        .map(|authority| authority.authority_id.clone())
}

impl Kind for CertificateDer<'static> {
    const KEY_OUTLIVES_SIGNING: bool = true;
    const KEYS: &'static str = "x509-CA-";
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

    fn belongs(&self, key: &PublicKey) -> bool {
        let spki = key.to_spki();
        self.windows(spki.len()).any(|part| part == spki)
    }

    fn make(making: &Making, signer: &Arc<dyn Signer>) -> Result<Made<Self>, RotationError> {
        let serial = SerialNumber::from_random(edge::random());
        let (id, key) = (making.trust_domain.id(), signer.public_key().clone());
        let template = issue::authority(id, key, making.life, making.now, serial);
        if let Some(upstream) = &making.upstream {
            return upstream::make(&**upstream, template, making);
        }
        let failed =
            |error: &dyn std::error::Error| RotationError::Certificate(edge::Chain(error).to_string());
        let certificate = template.self_sign(&KeyAdapter(Arc::clone(signer)));
        let certificate = certificate.map_err(|error| failed(&error))?;
        let authority = X509Authority::describe(making.key_id.clone(), &certificate);
        Ok(Made {
            authority: authority.map_err(|error| failed(&error))?,
            roots: Vec::new(),
        })
    }

    fn first_crl(
        authority: &Authority<Self>,
        signer: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Option<Crl>, RotationError> {
        revocation::first_crl(authority, signer, now)
    }
}

impl Kind for PublicKey {
    const KEY_OUTLIVES_SIGNING: bool = false;
    const KEYS: &'static str = "JWT-Signer-";
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

    fn belongs(&self, key: &PublicKey) -> bool {
        self == key
    }

    fn make(making: &Making, signer: &Arc<dyn Signer>) -> Result<Made<Self>, RotationError> {
        let name: [u8; 16] = edge::random();
        let authority = Authority {
            key_id: making.key_id.clone(),
            authority_id: name.iter().map(|byte| format!("{byte:02x}")).collect(),
            material: signer.public_key().clone(),
            not_before: making.now,
            not_after: making.now.plus(making.life),
            published_at: making.now,
            published_sequence: 0,
            state: AuthorityState::Prepared,
            tainted: false,
            upstream: None,
        };
        Ok(Made {
            authority,
            roots: Vec::new(),
        })
    }

    fn first_crl(
        _authority: &Authority<Self>,
        _signer: Arc<dyn Signer>,
        _now: Timestamp,
    ) -> Result<Option<Crl>, RotationError> {
        Ok(None)
    }
}
