//! What is known of the authorities, and the bundle that follows from it.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use svid::{Bundle, Timestamp, TrustDomain, x509::PublicKey};

use super::Slot;

/// All authorities whose signatures the trust domain accepts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authorities {
    /// For X509-SVIDs.
    pub x509: Vec<X509Authority>,
    /// For JWT-SVIDs.
    pub jwt: Vec<JwtAuthority>,
    /// Grows with each change of the bundle.
    pub sequence: u64,
}

/// Where an authority is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorityState {
    /// It signs.
    Active,
    /// Somebody else signs with it.
    Foreign,
    /// It signed, and what it signed may still be valid.
    Old,
    /// It is published, and will sign.
    Prepared,
}

/// An authority: a key that signs, and what is published of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority<M> {
    /// Name of its key in the key manager.
    pub key_id: String,
    /// What it is known by: subject key identifier in hex, or the `kid` of its tokens.
    pub authority_id: String,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// When it was published.
    pub published_at: Timestamp,
    /// The sequence number of the first bundle that held it.
    pub published_sequence: u64,
    /// Where it is in its life.
    pub state: AuthorityState,
    /// What it signed is to be replaced now.
    pub tainted: bool,
    /// What verifies its signatures.
    pub material: M,
    /// Who signed it, if it is no root: then it is not published, but the root is.
    pub upstream: Option<Upstream>,
}

/// Who signed an authority that is no root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Subject key identifier of the root, in hex.
    pub root_id: String,
    /// The certificates between the authority and the root, lowest first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// For X509-SVIDs: its certificate.
pub type X509Authority = Authority<CertificateDer<'static>>;

/// For JWT-SVIDs: a public key.
pub type JwtAuthority = Authority<PublicKey>;

impl<M> Authority<M> {
    /// Whether the root called `id` stands behind it.
    #[must_use]
    pub fn rests_on(&self, id: &str) -> bool {
        self.upstream
            .as_ref()
            .is_some_and(|upstream| upstream.root_id == id)
    }

    /// What rotation looks at; `confirmed` is the bundle that everyone has.
    pub(super) fn slot(&self, confirmed: u64) -> Slot {
        Slot {
            state: self.state,
            not_before: self.not_before,
            not_after: self.not_after,
            published_at: self.published_at,
            confirmed: self.published_sequence <= confirmed,
        }
    }
}

impl Authorities {
    /// How often peers are told to look for changes.
    pub const REFRESH_HINT: Duration = Duration::from_secs(300);

    /// What the trust domain is verified with.
    #[must_use]
    pub fn bundle(&self, trust_domain: TrustDomain) -> Bundle {
        let roots = self.x509.iter().filter(|authority| authority.upstream.is_none());
        let x509 = roots.map(|authority| svid::X509Authority {
            certificate: authority.material.clone(),
            tainted: authority.tainted,
        });
        let jwt = self.jwt.iter().map(|authority| svid::JwtAuthority {
            key_id: authority.authority_id.clone(),
            public_key: authority.material.to_spki(),
            expires_at: (authority.not_after != Timestamp::NEVER).then_some(authority.not_after),
            tainted: authority.tainted,
        });
        Bundle {
            trust_domain,
            x509_authorities: x509.collect(),
            jwt_authorities: jwt.collect(),
            refresh_hint: Some(Self::REFRESH_HINT),
            sequence: self.sequence,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.x509.len() + self.jwt.len()
    }

    /// The X.509 authority that signs.
    #[must_use]
    pub fn active_x509(&self) -> Option<&X509Authority> {
        self.x509
            .iter()
            .find(|authority| authority.state == AuthorityState::Active)
    }

    /// The JWT authority that signs.
    #[must_use]
    pub fn active_jwt(&self) -> Option<&JwtAuthority> {
        self.jwt
            .iter()
            .find(|authority| authority.state == AuthorityState::Active)
    }
}
