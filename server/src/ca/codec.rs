//! Authorities in the store.

use prost::Message;
use proto::plastron::store::v1::{self as stored, AuthorityState as Stored};
use svid::{Timestamp, x509::PublicKey};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Authorities, AuthorityState, JwtAuthority, Upstream, X509Authority};
use crate::registry::CodecError;

/// Writes authorities for the store.
#[must_use]
pub fn encode(authorities: &Authorities) -> Vec<u8> {
    let x509 = authorities.x509.iter().map(|authority| stored::X509Authority {
        key_id: authority.key_id.clone(),
        certificate: authority.material.to_vec(),
        state: state_to_store(authority.state).into(),
        tainted: authority.tainted,
        published_at: authority.published_at.as_unix(),
        published_sequence: authority.published_sequence,
        upstream_root_id: authority
            .upstream
            .as_ref()
            .map(|upstream| upstream.root_id.clone())
            .unwrap_or_default(),
        upstream_chain: authority
            .upstream
            .iter()
            .flat_map(|upstream| &upstream.chain)
            .map(|certificate| certificate.to_vec())
            .collect(),
    });
    let jwt = authorities.jwt.iter().map(|authority| stored::JwtAuthority {
        key_id: authority.key_id.clone(),
        public_key: authority.material.to_spki(),
        jwt_key_id: authority.authority_id.clone(),
        state: state_to_store(authority.state).into(),
        tainted: authority.tainted,
        published_at: authority.published_at.as_unix(),
        published_sequence: authority.published_sequence,
        not_before: authority.not_before.as_unix(),
        not_after: authority.not_after.as_unix(),
    });
    let record = stored::Authorities {
        x509: x509.collect(),
        jwt: jwt.collect(),
        sequence: authorities.sequence,
    };
    record.encode_to_vec()
}

/// Reads authorities from the store.
///
/// # Errors
///
/// They are not what was written.
pub fn decode(value: &[u8]) -> Result<Authorities, CodecError> {
    let record = stored::Authorities::decode(value)?;
    let x509 = record.x509.into_iter().map(|authority| {
        let state = state_from_store(authority.state())?;
        let described = X509Authority::describe(authority.key_id, &authority.certificate)?;
        Ok(X509Authority {
            state,
            tainted: authority.tainted,
            published_at: Timestamp::from_unix(authority.published_at),
            published_sequence: authority.published_sequence,
            upstream: (!authority.upstream_root_id.is_empty()).then(|| Upstream {
                root_id: authority.upstream_root_id,
                chain: authority.upstream_chain.into_iter().map(Into::into).collect(),
            }),
            ..described
        })
    });
    let jwt = record.jwt.into_iter().map(|authority| {
        Ok(JwtAuthority {
            state: state_from_store(authority.state())?,
            key_id: authority.key_id,
            authority_id: authority.jwt_key_id,
            material: PublicKey::from_spki(&authority.public_key).map_err(|_| CodecError::Missing("key"))?,
            not_before: Timestamp::from_unix(authority.not_before),
            not_after: Timestamp::from_unix(authority.not_after),
            published_at: Timestamp::from_unix(authority.published_at),
            published_sequence: authority.published_sequence,
            tainted: authority.tainted,
            upstream: None,
        })
    });
    Ok(Authorities {
        x509: x509.collect::<Result<_, CodecError>>()?,
        jwt: jwt.collect::<Result<_, CodecError>>()?,
        sequence: record.sequence,
    })
}

impl X509Authority {
    /// An authority that somebody else signs with, from its certificate in DER; nothing if that is none of a CA.
    #[must_use]
    pub fn foreign(certificate: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        if !rest.is_empty() || !parsed.is_ca() {
            return None;
        }
        let described = Self::describe(String::new(), certificate).ok()?;
        Some(Self {
            state: AuthorityState::Foreign,
            ..described
        })
    }

    /// A prepared authority that was not published yet, from its certificate in DER.
    pub(super) fn describe(key_id: String, certificate: &[u8]) -> Result<Self, CodecError> {
        let malformed = CodecError::Missing("certificate");
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Err(malformed);
        };
        let validity = parsed.validity();
        Ok(Self {
            key_id,
            authority_id: subject_key_id(&parsed),
            not_before: Timestamp::from_unix(validity.not_before.timestamp()),
            not_after: Timestamp::from_unix(validity.not_after.timestamp()),
            material: certificate.to_vec().into(),
            published_at: Timestamp::default(),
            published_sequence: 0,
            state: AuthorityState::Prepared,
            tainted: false,
            upstream: None,
        })
    }
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> String {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    let identifier = certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            SubjectKeyIdentifier(identifier) => Some(identifier.0),
            _ => None,
        });
    identifier
        .unwrap_or_default()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn state_to_store(state: AuthorityState) -> Stored {
    match state {
        AuthorityState::Active => Stored::Active,
        AuthorityState::Foreign => Stored::Foreign,
        AuthorityState::Old => Stored::Old,
        AuthorityState::Prepared => Stored::Prepared,
    }
}

fn state_from_store(state: Stored) -> Result<AuthorityState, CodecError> {
    match state {
        Stored::Active => Ok(AuthorityState::Active),
        Stored::Foreign => Ok(AuthorityState::Foreign),
        Stored::Old => Ok(AuthorityState::Old),
        Stored::Prepared => Ok(AuthorityState::Prepared),
        Stored::Unspecified => Err(CodecError::Missing("state")),
    }
}
