//! What a token says.

use serde_json::{Map, Number, Value};

use super::jws::{Compact, JwsError};
use crate::{SpiffeId, SpiffeIdError, Timestamp};

/// What a JWT-SVID says. Nothing of it is verified: see [`verify`](super::verify()).
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSvid {
    /// Whom it names.
    pub id: SpiffeId,
    /// For whom it is; at least one.
    pub audience: Vec<String>,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// Before when it is refused, if it says so.
    pub not_before: Option<Timestamp>,
    /// The key that is said to have signed it.
    pub key_id: String,
    /// Every claim.
    pub claims: Map<String, Value>,
}

/// Why text is no JWT-SVID.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// `aud` is missing, empty, or neither text nor a list of text (§3.2).
    #[error("token has no audience")]
    Audience,
    /// The payload is no JSON object.
    #[error("claims of the token are malformed")]
    Claims(#[source] serde_json::Error),
    /// It is no signed token.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Who signed it is not said.
    #[error("header of the token has no `kid`")]
    NoKeyId,
    /// `sub` is no text (§3.1).
    #[error("token has no subject")]
    NoSubject,
    /// `sub` is no SPIFFE ID (§3.1).
    #[error("subject of the token is no SPIFFE ID")]
    Subject(#[from] SpiffeIdError),
    /// `exp` is missing, or a time is no number (§3.3).
    #[error("`{0}` of the token is missing or no time")]
    Time(&'static str),
}

impl JwtSvid {
    /// Reads a token and checks that it has the form of a JWT-SVID.
    ///
    /// # Errors
    ///
    /// The first rule of the standard that the token breaks.
    pub fn parse(token: &str) -> Result<Self, TokenError> {
        Self::read(&Compact::parse(token)?)
    }

    pub(super) fn read(token: &Compact<'_>) -> Result<Self, TokenError> {
        let key_id = token.key_id.clone().filter(|kid| !kid.is_empty());
        let key_id = key_id.ok_or(TokenError::NoKeyId)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&token.payload).map_err(TokenError::Claims)?;
        let subject = claims.get("sub").and_then(Value::as_str);
        Ok(Self {
            id: SpiffeId::parse(subject.ok_or(TokenError::NoSubject)?)?,
            audience: audience(&claims).ok_or(TokenError::Audience)?,
            expires_at: time(&claims, "exp")?.ok_or(TokenError::Time("exp"))?,
            not_before: time(&claims, "nbf")?,
            key_id,
            claims,
        })
    }
}

fn audience(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let audience: Vec<String> = match claims.get("aud")? {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => several
            .iter()
            .map(|name| name.as_str().map(ToOwned::to_owned))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    (!audience.is_empty()).then_some(audience)
}

fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_number().and_then(seconds);
    seconds
        .map(|seconds| Some(Timestamp::from_unix(seconds)))
        .ok_or(TokenError::Time(name))
}

/// A NumericDate may have a fraction (RFC 7519 §2).
fn seconds(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let seconds = number.as_f64()?.floor();
        let is_exact = seconds.abs() < 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        is_exact.then_some(seconds as i64)
    })
}
