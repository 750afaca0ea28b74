//! Making tokens.

use std::error::Error;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use x509_parser::{asn1_rs::Integer, prelude::FromDer};

use super::{Algorithm, Audience};
use crate::{SpiffeId, Timestamp, x509::PublicKey};

/// What a JWT-SVID is to say (JWT-SVID §3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// Whom it names: `sub`.
    pub id: SpiffeId,
    /// For whom it is: `aud`.
    pub audience: Audience,
    /// When it was made: `iat`.
    pub issued_at: Timestamp,
    /// From when on it is refused: `exp`.
    pub expires_at: Timestamp,
    /// Who made it, for those who look for keys by OIDC discovery: `iss`.
    pub issuer: Option<String>,
    /// Its own identifier, for those who refuse to see one twice: `jti`.
    pub token_id: Option<String>,
}

/// A token can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError<E: Error + 'static> {
    /// JWT-SVIDs are not signed with such keys.
    #[error("JWT-SVIDs are signed with EC or RSA keys only")]
    Key,
    /// The key can't be used.
    #[error("cannot sign")]
    Sign(#[source] E),
    /// The key made something that is no signature.
    #[error("key made a malformed signature")]
    Signature,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: Aud<'a>,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    sub: String,
}

/// One audience is text, several are a list (RFC 7519 §4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Aud<'a> {
    One(&'a str),
    Several(&'a [String]),
}

/// Signs `claims` with the key that bundles have as `key_id`. `sign` signs as X.509 does: ECDSA in DER, or
/// RSASSA-PKCS1-v1_5.
///
/// # Errors
///
/// The key can't be used.
pub fn sign<E: Error + 'static>(
    claims: &Claims,
    key_id: &str,
    key: &PublicKey,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, MintError<E>> {
    let algorithm = Algorithm::of(key).ok_or(MintError::Key)?;
    let header = Header {
        alg: algorithm.name(),
        kid: key_id,
        typ: "JWT",
    };
    let message = format!("{}.{}", encode(&header), encode(&payload(claims)));
    let signature = sign(message.as_bytes()).map_err(MintError::Sign)?;
    let signature = match algorithm.coordinate_len() {
        Some(len) => fixed(&signature, len).ok_or(MintError::Signature)?,
        None => signature,
    };
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

fn payload(claims: &Claims) -> Payload<'_> {
    let aud = match claims.audience.names() {
        [one] => Aud::One(one),
        several => Aud::Several(several),
    };
    Payload {
        aud,
        exp: claims.expires_at.as_unix(),
        iat: claims.issued_at.as_unix(),
        iss: claims.issuer.as_deref(),
        jti: claims.token_id.as_deref(),
        sub: claims.id.to_string(),
    }
}

fn encode(part: &impl Serialize) -> String {
    // Plain structs of text and numbers always have a JSON form.
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

/// An ECDSA signature as JWS has it: both numbers, each of `len` bytes (RFC 7518 §3.4).
fn fixed(der: &[u8], len: usize) -> Option<Vec<u8>> {
    let (rest, numbers) = Vec::<Integer<'_>>::from_der(der).ok()?;
    if !rest.is_empty() || numbers.len() != 2 {
        return None;
    }
    let mut signature = Vec::with_capacity(2 * len);
    for number in &numbers {
        let bytes: &[u8] = number.as_ref();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let significant = bytes.get(zeros..)?;
        signature.resize(signature.len() + len.checked_sub(significant.len())?, 0);
        signature.extend(significant);
    }
    Some(signature)
}
