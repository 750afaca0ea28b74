//! Signing with the active authority.

use std::sync::Arc;

use edge::Clock;
use plugin_api::{KeyError, Signer};
use rustls_pki_types::CertificateDer;
use svid::{
    SpiffeId, Timestamp, jwt,
    x509::{Issuer, MintError, SerialNumber, Template, sign},
};
use tokio::sync::watch;

use super::token::{IssuedJwt, JwtSigning, SignedJwt};
use crate::{
    issue::{Occasion, TokenOccasion},
    journal::{AppendError, Journal, Record},
    meters::Issued,
};

/// Signs SVIDs. Clones share the authorities.
#[derive(Clone, Debug)]
pub struct Ca {
    signing: watch::Receiver<Option<Arc<Signing>>>,
    jwt_signing: watch::Receiver<Option<Arc<JwtSigning>>>,
    journal: Journal,
    clock: Clock,
    issued: Issued,
}

/// The authority that signs now.
pub struct Signing {
    issuer: Issuer<KeyAdapter>,
    /// Certificates between what it signs and a root; none where it is a root.
    chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub not_after: Timestamp,
    /// Its subject key identifier in hex.
    pub authority_id: String,
}

/// A certificate that must not leave the server yet: the journal does not have it.
#[derive(Debug)]
pub struct SignedSvid(IssuedSvid);

/// An SVID whose serial number is durable.
#[derive(Clone, Debug)]
pub struct IssuedSvid {
    /// Whom it names.
    pub id: SpiffeId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The certificate and its issuers, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Who signed it.
    pub authority_id: String,
}

/// An SVID can't be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Its serial number could not be made durable.
    #[error("cannot record the SVID")]
    Journal(#[from] AppendError),
    /// The certificate can't be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// There is no authority yet.
    #[error("no signing authority is active yet")]
    NotReady,
    /// The token can't be made.
    #[error(transparent)]
    Token(#[from] jwt::MintError<KeyError>),
}

impl Ca {
    /// Signs with what `signing` and `jwt_signing` show.
    #[must_use]
    pub fn new(
        signing: watch::Receiver<Option<Arc<Signing>>>,
        jwt_signing: watch::Receiver<Option<Arc<JwtSigning>>>,
        journal: Journal,
        clock: Clock,
    ) -> Self {
        Self {
            signing,
            jwt_signing,
            journal,
            clock,
            issued: Issued::default(),
        }
    }

    /// Counts in `issued` what is released.
    #[must_use]
    pub fn metered(self, issued: Issued) -> Self {
        Self { issued, ..self }
    }

    /// Counts an agent's own SVID, which was recorded together with the change that it came with.
    pub fn note_agent_svid(&self) {
        self.issued.agent.add(1);
    }

    /// The authority that signs now.
    ///
    /// # Errors
    ///
    /// There is none yet.
    pub fn signing(&self) -> Result<Arc<Signing>, SignError> {
        self.signing.borrow().clone().ok_or(SignError::NotReady)
    }

    /// The authority that signs JWT-SVIDs now.
    ///
    /// # Errors
    ///
    /// There is none yet.
    pub fn jwt_signing(&self) -> Result<Arc<JwtSigning>, SignError> {
        self.jwt_signing.borrow().clone().ok_or(SignError::NotReady)
    }

    /// Time and identifier for a token that `signing` is to sign now.
    #[must_use]
    pub fn token_occasion(&self, signing: &JwtSigning) -> TokenOccasion {
        TokenOccasion {
            now: self.clock.now(),
            authority_not_after: signing.not_after,
            token_id: uuid::Builder::from_random_bytes(edge::random())
                .into_uuid()
                .to_string(),
        }
    }

    /// Time and number for a certificate that `signing` is to sign now.
    #[must_use]
    pub fn occasion(&self, signing: &Signing) -> Occasion {
        Occasion {
            now: self.clock.now(),
            authority_not_after: signing.not_after,
            serial: SerialNumber::from_random(edge::random()),
        }
    }

    /// Records SVIDs, each with its record, and releases them.
    ///
    /// # Errors
    ///
    /// They could not be made durable.
    pub async fn release(&self, signed: Vec<(SignedSvid, Record)>) -> Result<Vec<IssuedSvid>, SignError> {
        let mut svids = Vec::with_capacity(signed.len());
        let mut records: Vec<Record> = Vec::with_capacity(signed.len());
        for (SignedSvid(svid), record) in signed {
            records.push(ledger_facts(record, &svid));
            svids.push(svid);
        }
        let events: Vec<_> = records.iter().map(Record::event).collect();
        self.journal.append(records).await?;
        events.into_iter().for_each(|event| self.issued.note(event));
        Ok(svids)
    }

    /// Records a token, and releases it.
    ///
    /// # Errors
    ///
    /// It could not be made durable.
    pub async fn release_jwt(&self, signed: SignedJwt, record: Record) -> Result<IssuedJwt, SignError> {
        self.journal.append(vec![signed.ledger_record(record)]).await?;
        self.issued.jwt.add(1);
        Ok(signed.recorded())
    }
}

impl SignedSvid {
    /// The SVID, for a record that is made durable together with a change: call [`SignedSvid::recorded`] after.
    #[must_use]
    pub fn svid(&self) -> &IssuedSvid {
        &self.0
    }

    /// What the ledger says of it, added to `record`.
    #[must_use]
    pub fn ledger_record(&self, record: Record) -> Record {
        ledger_facts(record, &self.0)
    }

    /// Releases the SVID, whose record is durable.
    #[must_use]
    pub fn recorded(self) -> IssuedSvid {
        self.0
    }
}

fn ledger_facts(record: Record, svid: &IssuedSvid) -> Record {
    record
        .with("spiffe_id", &svid.id)
        .with("serial_num", &svid.serial)
        .with("expires_at", &svid.not_after)
        .with("authority_id", &svid.authority_id)
}

impl Signing {
    /// An authority with `certificate`, whose key `signer` is; `chain` leads from it to a root.
    ///
    /// # Errors
    ///
    /// The certificate is malformed.
    pub fn new(
        certificate: &CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn Signer>,
        not_after: Timestamp,
        authority_id: String,
    ) -> Result<Self, MintError> {
        let issuer = Issuer::from_ca_cert_der(certificate, KeyAdapter(signer)).map_err(MintError::Sign)?;
        Ok(Self {
            issuer,
            chain,
            not_after,
            authority_id,
        })
    }

    /// Signs what `template` says.
    ///
    /// # Errors
    ///
    /// The key can't be used, or a name can't stand in a certificate.
    pub fn sign(&self, template: &Template) -> Result<SignedSvid, SignError> {
        let certificate = sign(template, &self.issuer)?;
        Ok(SignedSvid(IssuedSvid {
            id: template.id.clone(),
            serial: template.serial.clone(),
            not_before: template.not_before,
            not_after: template.not_after,
            chain: std::iter::once(certificate)
                .chain(self.chain.iter().cloned())
                .collect(),
            authority_id: self.authority_id.clone(),
        }))
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing")
            .field("authority_id", &self.authority_id)
            .finish_non_exhaustive()
    }
}

/// A key of a key manager, as rcgen uses keys.
pub(super) struct KeyAdapter(pub(super) Arc<dyn Signer>);

impl rcgen::PublicKeyData for KeyAdapter {
    fn der_bytes(&self) -> &[u8] {
        rcgen::PublicKeyData::der_bytes(self.0.public_key())
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(self.0.public_key())
    }
}

impl rcgen::SigningKey for KeyAdapter {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0
            .sign(message)
            .map_err(|error| rcgen::Error::X509(error.to_string()))
    }
}
