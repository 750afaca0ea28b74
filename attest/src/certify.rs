//! Certifications: the TPM's word that a key is in it. With it, an SVID names a key that no software holds (25, 26).

use crate::{
    Binding, Name, Reject, VerifiedAk, ak,
    statement::Statement,
    strength,
    wire::{Attested, Public},
};

/// A certification as it came in, parsed; nothing of it is verified.
#[derive(Clone, Debug)]
pub struct Certification {
    statement: Statement,
    name: Box<[u8]>,
}

/// A signing key that is known to live in the TPM of a verified attestation key. Only [`Certification::verify`] makes
/// one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertifiedKey(Public);

impl Certification {
    /// Parses TPMS_ATTEST and TPMT_SIGNATURE (28, 29).
    ///
    /// # Errors
    ///
    /// One of them is malformed, the TPM did not make the statement, or it is no certification.
    pub fn parse(statement: &[u8], signature: &[u8]) -> Result<Self, Reject> {
        let statement = Statement::parse(statement, signature)?;
        let Attested::Certify { name } = &statement.attest.attested else {
            return Err(Reject::AttestType);
        };
        Ok(Self {
            name: name.clone(),
            statement,
        })
    }

    /// Verifies that it is about `binding`, signed by `ak`, and of `key`, which can be in no other place than the TPM
    /// (23–26, 30–33). The caller compares the request's key with that of the result.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(self, ak: &VerifiedAk, binding: &Binding<'_>, key: Public) -> Result<CertifiedKey, Reject> {
        self.statement.check(ak, binding)?;
        if !ak::is_plain_signing_key(&key) || strength::check(&key.key).is_err() {
            return Err(Reject::CertifiedAttributes);
        }
        let name = Name::parse(&self.name).map_err(|_| Reject::CertifiedName)?;
        if name != key.name() {
            return Err(Reject::CertifiedName);
        }
        Ok(CertifiedKey(key))
    }
}

impl CertifiedKey {
    /// Checks that it is the key of this DER SubjectPublicKeyInfo, as a certificate request has it (26).
    ///
    /// # Errors
    ///
    /// [`Reject::CertifiedName`] if it is another.
    pub fn check_request(&self, subject_public_key_info: &[u8]) -> Result<(), Reject> {
        if self.0.to_spki() == subject_public_key_info {
            Ok(())
        } else {
            Err(Reject::CertifiedName)
        }
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.0
    }
}
