//! Bundles: the keys that a trust domain's SVIDs are verified with, and their JWK Set form.
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Trust_Domain_and_Bundle.md>

use std::time::Duration;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{Timestamp, TrustDomain, x509::PublicKey};

/// What the SVIDs of one trust domain are verified with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Whose it is.
    pub trust_domain: TrustDomain,
    /// Roots for X509-SVIDs.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys for JWT-SVIDs.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// How often to look for a newer one.
    pub refresh_hint: Option<Duration>,
    /// Grows with each change.
    pub sequence: u64,
}

/// A root certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Authority {
    /// In DER.
    pub certificate: CertificateDer<'static>,
    /// Still trusted, but what it signed is to be replaced now.
    pub tainted: bool,
}

/// A key that signs JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtAuthority {
    /// The `kid` of tokens signed with it.
    pub key_id: String,
    /// The key as DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// When it stops signing; `None` if unknown, as in a JWK Set.
    pub expires_at: Option<Timestamp>,
    /// Still trusted, but what it signed is to be replaced now.
    pub tainted: bool,
}

/// Why bytes are no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not JSON, or a member has the wrong type.
    #[error("bundle is not a JWK Set")]
    Json(#[source] serde_json::Error),
    /// An `x509-svid` key has no usable certificate.
    #[error("key {0} of the bundle has a malformed certificate in `x5c`")]
    Certificate(usize),
    /// A `jwt-svid` key is malformed or has no `kid`.
    #[error("key {0} of the bundle is no public key with a `kid`")]
    Key(usize),
    /// More bytes or keys than any real bundle.
    #[error("bundle is larger than {max} bytes or {keys} keys", max = Bundle::MAX_LEN, keys = Bundle::MAX_KEYS)]
    TooLarge,
}

#[derive(Deserialize, Serialize)]
struct JwkSet {
    keys: Vec<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

impl Bundle {
    /// Longest JWK Set in bytes.
    pub const MAX_LEN: usize = 1024 * 1024;
    /// Most keys in a JWK Set.
    pub const MAX_KEYS: usize = 256;

    /// A bundle that verifies nothing.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            refresh_hint: None,
            sequence: 0,
        }
    }

    /// The roots, concatenated in DER: the form of the Workload API.
    #[must_use]
    pub fn x509_der(&self) -> Vec<u8> {
        self.x509_authorities
            .iter()
            .flat_map(|root| root.certificate.iter().copied())
            .collect()
    }

    /// When the last of the roots ends; `None` if there is none that can be read.
    #[must_use]
    pub fn x509_not_after(&self) -> Option<Timestamp> {
        let ends = self.x509_authorities.iter().filter_map(|root| {
            let (_, certificate) = X509Certificate::from_der(&root.certificate).ok()?;
            Some(Timestamp::from_unix(certificate.validity().not_after.timestamp()))
        });
        ends.max()
    }

    /// Parses the JWK Set of `trust_domain`. Keys of unknown use or type are left out (§4.2).
    ///
    /// # Errors
    ///
    /// It is too large, no JWK Set, or a key of a known use is malformed.
    pub fn from_jwks(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, BundleError> {
        if json.len() > Self::MAX_LEN {
            return Err(BundleError::TooLarge);
        }
        let set: JwkSet = serde_json::from_slice(json).map_err(BundleError::Json)?;
        if set.keys.len() > Self::MAX_KEYS {
            return Err(BundleError::TooLarge);
        }
        let mut bundle = Self::empty(trust_domain);
        bundle.sequence = set.spiffe_sequence.unwrap_or(0);
        bundle.refresh_hint = set.spiffe_refresh_hint.map(Duration::from_secs);
        for (index, key) in set.keys.iter().enumerate() {
            match text(key, "use") {
                Some("x509-svid") => bundle.x509_authorities.extend(x509_authority(key, index)?),
                Some("jwt-svid") => bundle.jwt_authorities.extend(jwt_authority(key, index)?),
                _ => {}
            }
        }
        Ok(bundle)
    }

    /// Prints the whole bundle as a JWK Set (§4). What would not be read back is left out.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let x509 = self.x509_authorities.iter().filter_map(x509_jwk);
        let jwt = self.jwt_authorities.iter().filter_map(jwt_jwk);
        let set = JwkSet {
            keys: x509.chain(jwt).collect(),
            spiffe_sequence: Some(self.sequence),
            spiffe_refresh_hint: self.refresh_hint.map(|hint| hint.as_secs()),
        };
        serde_json::to_string(&set).unwrap_or_default()
    }

    /// Prints the JWT keys alone as a JWK Set: the form of the Workload API (§6.2.2 there).
    #[must_use]
    pub fn to_jwt_jwks(&self) -> String {
        let keys = self.jwt_authorities.iter().filter_map(jwt_jwk).collect();
        let set = JwkSet {
            keys,
            spiffe_sequence: None,
            spiffe_refresh_hint: None,
        };
        serde_json::to_string(&set).unwrap_or_default()
    }
}

impl X509Authority {
    /// A certificate in DER, not tainted; nothing if it is no certificate, or something follows it.
    #[must_use]
    pub fn parse(certificate: CertificateDer<'static>) -> Option<Self> {
        parsed(&certificate)?;
        Some(Self {
            certificate,
            tainted: false,
        })
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

fn text<'a>(key: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    key.get(name).and_then(Value::as_str)
}

/// An entry without certificate is ignored, as are certificates after the first (X509-SVID §6.2).
fn x509_authority(key: &Map<String, Value>, index: usize) -> Result<Option<X509Authority>, BundleError> {
    let first = key
        .get("x5c")
        .and_then(Value::as_array)
        .and_then(|chain| chain.first());
    let Some(encoded) = first else { return Ok(None) };
    let der = encoded
        .as_str()
        .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    let der = der.ok_or(BundleError::Certificate(index))?;
    let authority = X509Authority::parse(der.into()).ok_or(BundleError::Certificate(index))?;
    Ok(Some(authority))
}

fn jwt_authority(key: &Map<String, Value>, index: usize) -> Result<Option<JwtAuthority>, BundleError> {
    let key_id = text(key, "kid")
        .filter(|kid| !kid.is_empty())
        .ok_or(BundleError::Key(index))?;
    let member = |name| text(key, name).and_then(|value| BASE64_URL_SAFE_NO_PAD.decode(value).ok());
    let public_key = match (text(key, "kty"), text(key, "crv")) {
        (Some("EC"), Some(curve)) => PublicKey::from_point(curve, member("x"), member("y")),
        (Some("RSA"), _) => PublicKey::from_modulus(member("n"), member("e")),
        _ => return Ok(None),
    };
    let public_key = public_key.ok_or(BundleError::Key(index))?.to_spki();
    Ok(Some(JwtAuthority {
        key_id: key_id.into(),
        public_key,
        expires_at: None,
        tainted: false,
    }))
}

fn x509_jwk(authority: &X509Authority) -> Option<Map<String, Value>> {
    let certificate = parsed(&authority.certificate)?;
    let mut jwk = public_jwk(&PublicKey::from_parsed(certificate.public_key()).ok()?)?;
    jwk.insert("use".into(), "x509-svid".into());
    jwk.insert(
        "x5c".into(),
        vec![BASE64_STANDARD.encode(&authority.certificate)].into(),
    );
    Some(jwk)
}

fn jwt_jwk(authority: &JwtAuthority) -> Option<Map<String, Value>> {
    if authority.key_id.is_empty() {
        return None;
    }
    let mut jwk = public_jwk(&PublicKey::from_spki(&authority.public_key).ok()?)?;
    jwk.insert("kid".into(), authority.key_id.as_str().into());
    jwk.insert("use".into(), "jwt-svid".into());
    Some(jwk)
}

fn public_jwk(key: &PublicKey) -> Option<Map<String, Value>> {
    let members = key.to_jwk()?;
    let mut jwk = Map::new();
    jwk.insert("kty".into(), members.kty.into());
    if let Some(curve) = members.crv {
        jwk.insert("crv".into(), curve.into());
    }
    for (name, value) in members.numbers {
        jwk.insert(name.into(), BASE64_URL_SAFE_NO_PAD.encode(value).into());
    }
    Some(jwk)
}

#[cfg(test)]
mod tests;
