//! What any statement of a TPM must be, whatever it is about: the TPM's own words, signed by the right key, for us.

use aws_lc_rs::constant_time;

use crate::{
    Binding, Part, Reject, VerifiedAk, signing,
    wire::{Attest, PublicKey, Signature},
};

/// TPMS_ATTEST and TPMT_SIGNATURE as they came in, parsed; nothing of them is verified.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// TPMS_ATTEST, as signed.
    bytes: Vec<u8>,
    pub(crate) attest: Attest,
    signature: Signature,
}

impl Statement {
    /// Parses both, and checks that the TPM made the statement (28).
    pub(crate) fn parse(statement: &[u8], signature: &[u8]) -> Result<Self, Reject> {
        let attest = Attest::parse(statement).map_err(|error| Reject::Malformed(Part::Statement, error))?;
        let signature =
            Signature::parse(signature).map_err(|error| Reject::Malformed(Part::Signature, error))?;
        if attest.magic != Attest::MAGIC {
            return Err(Reject::AttestMagic);
        }
        Ok(Self {
            bytes: statement.into(),
            attest,
            signature,
        })
    }

    /// Checks that it is about exactly this (31–33).
    pub(crate) fn check_extra_data(&self, expected: &[u8]) -> Result<(), Reject> {
        constant_time::verify_slices_are_equal(&self.attest.extra_data, expected)
            .map_err(|_| Reject::ExtraData)
    }

    /// Checks that `key` signed it (23, 24).
    pub(crate) fn check_signature(&self, key: &PublicKey) -> Result<(), Reject> {
        signing::verify(key, &self.bytes, &self.signature)
    }

    /// Checks that it is about `binding`, and signed by `ak`, a primary key of the endorsement hierarchy (23, 24, 30–33).
    pub(crate) fn check(&self, ak: &VerifiedAk, binding: &Binding<'_>) -> Result<(), Reject> {
        self.check_extra_data(&binding.extra_data())?;
        self.check_signature(&ak.key().public().key)?;
        // In any other hierarchy the TPM obfuscates clock and counts, and in the null hierarchy keys are nobody's.
        let signer = ak.key().name().qualified_under_endorsement();
        if signer.is_none_or(|signer| *signer.as_bytes() != *self.attest.qualified_signer) {
            return Err(Reject::QualifiedSigner);
        }
        Ok(())
    }
}
