//! Signing JWT-SVIDs with the active authority.

use std::{fmt, sync::Arc};

use plugin_api::Signer;
use svid::{
    Timestamp,
    jwt::{self, Claims},
};

use super::SignError;
use crate::journal::Record;

/// The authority that signs JWT-SVIDs now.
pub struct JwtSigning {
    signer: Arc<dyn Signer>,
    /// When it ends.
    pub not_after: Timestamp,
    /// The `kid` of its tokens.
    pub authority_id: String,
}

/// A token that must not leave the server yet: the journal does not have it.
pub struct SignedJwt(IssuedJwt);

/// A token whose record is durable.
pub struct IssuedJwt {
    /// What it says.
    pub claims: Claims,
    /// The token.
    pub token: String,
    /// Who signed it.
    authority_id: String,
}

impl JwtSigning {
    /// An authority whose key `signer` is.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, not_after: Timestamp, authority_id: String) -> Self {
        Self {
            signer,
            not_after,
            authority_id,
        }
    }

    /// Signs a token that says `claims`.
    ///
    /// # Errors
    ///
    /// The key can't be used.
    pub fn sign(&self, claims: Claims) -> Result<SignedJwt, SignError> {
        let key = self.signer.public_key();
        let token = jwt::sign(&claims, &self.authority_id, key, |message| {
            self.signer.sign(message)
        })?;
        Ok(SignedJwt(IssuedJwt {
            claims,
            token,
            authority_id: self.authority_id.clone(),
        }))
    }
}

impl SignedJwt {
    /// Adds to `record` what the ledger says of the token, which is never the token.
    pub(super) fn ledger_record(&self, record: Record) -> Record {
        let claims = &self.0.claims;
        let record = record
            .with("spiffe_id", &claims.id)
            .with("audience", &claims.audience.names().join(" "))
            .with("expires_at", &claims.expires_at)
            .with("authority_id", &self.0.authority_id);
        match &claims.token_id {
            Some(token_id) => record.with("token_id", token_id),
            None => record,
        }
    }

    /// Releases the token, whose record is durable.
    pub(super) fn recorded(self) -> IssuedJwt {
        self.0
    }
}

impl fmt::Debug for JwtSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSigning")
            .field("authority_id", &self.authority_id)
            .finish_non_exhaustive()
    }
}
