//! Verification of a JWT-SVID against the bundle of the trust domain it names.

use std::{borrow::Borrow, time::Duration};

use super::{
    jws::Compact,
    token::{JwtSvid, TokenError},
};
use crate::{Bundle, Timestamp, TrustDomain, x509::PublicKey};

/// A JWT-SVID that a key of its own trust domain signed, for the audience that was asked for, and that is valid
/// now. Only [`verify()`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedJwt {
    svid: JwtSvid,
}

impl VerifiedJwt {
    /// What the token says.
    #[must_use]
    pub fn svid(&self) -> &JwtSvid {
        &self.svid
    }
}

/// Why a JWT-SVID is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is for somebody else (§3.2).
    #[error("token is for another audience")]
    Audience,
    /// It has ended (§3.3).
    #[error(
        "token ended at {expires_at}, and the clock here shows {now}; are the clocks of both ends right?"
    )]
    Ended {
        /// When it ended.
        expires_at: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// It is for later.
    #[error(
        "token begins at {not_before}, and the clock here shows {now}; are the clocks of both ends right?"
    )]
    NotBegun {
        /// When it begins.
        not_before: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The key did not sign this.
    #[error("signature of the token does not verify")]
    Signature,
    /// It is no JWT-SVID.
    #[error("token is no JWT-SVID")]
    Token(#[from] TokenError),
    /// The bundle does not have the key (§4).
    #[error("bundle has no JWT authority `{0}`")]
    UnknownKey(String),
    /// There is no bundle for the trust domain that the token names.
    #[error("no bundle for trust domain `{0}`")]
    UnknownTrustDomain(TrustDomain),
}

/// How far the issuer's clock may be ahead of ours.
const LEEWAY: Duration = Duration::from_secs(60);

/// Verifies `token` at `now` for `audience`, with the bundle that `bundle_of` has for the trust domain named in it,
/// and with no other (JWT-SVID §3 to §6).
///
/// # Errors
///
/// Why the token is not believed.
pub fn verify<B: Borrow<Bundle>>(
    token: &str,
    audience: &str,
    bundle_of: impl FnOnce(&TrustDomain) -> Option<B>,
    now: Timestamp,
) -> Result<VerifiedJwt, Refused> {
    let compact = Compact::parse(token).map_err(TokenError::from)?;
    let svid = JwtSvid::read(&compact)?;
    let bundle = bundle_of(svid.id.trust_domain())
        .ok_or_else(|| Refused::UnknownTrustDomain(svid.id.trust_domain().clone()))?;
    let key = key(bundle.borrow(), &svid.key_id)?;
    compact.verify(&key).ok_or(Refused::Signature)?;
    if svid.expires_at <= now {
        let expires_at = svid.expires_at;
        return Err(Refused::Ended { expires_at, now });
    }
    if let Some(not_before) = svid.not_before.filter(|begin| *begin > now.plus(LEEWAY)) {
        return Err(Refused::NotBegun { not_before, now });
    }
    if !svid.audience.iter().any(|name| name == audience) {
        return Err(Refused::Audience);
    }
    Ok(VerifiedJwt { svid })
}

fn key(bundle: &Bundle, key_id: &str) -> Result<PublicKey, Refused> {
    let mut authorities = bundle.jwt_authorities.iter();
    let authority = authorities.find(|authority| authority.key_id == key_id);
    authority
        .and_then(|authority| PublicKey::from_spki(&authority.public_key).ok())
        .ok_or_else(|| Refused::UnknownKey(key_id.into()))
}
