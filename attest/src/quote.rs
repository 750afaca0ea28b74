//! Quotes: what the TPM signed of its PCRs.

use aws_lc_rs::{
    constant_time,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};

use crate::{
    Binding, HashAlg, Part, PcrSelection, PcrSet, PcrValues, Reject, VerifiedAk,
    event_log::{self, EventLog},
    wire::{Attest, Attested, ClockInfo, PublicKey, Signature},
};

/// A quote as it came in, parsed; nothing of it is verified.
#[derive(Clone, Debug)]
pub struct Quote {
    /// TPMS_ATTEST, as signed.
    statement: Vec<u8>,
    attest: Attest,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
    signature: Signature,
}

/// What the TPM of a verified attestation key said, about this connection. Only [`Quote::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedQuote {
    /// Clock and reset counts.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
}

/// A verified quote that covers the PCRs it should. Only [`VerifiedQuote::over`] makes one.
#[derive(Clone, Debug)]
pub struct SelectedQuote(VerifiedQuote);

/// PCR values that a log explains and a quote signed. Only [`SelectedQuote::explain`] and
/// [`SelectedQuote::matches`] make one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPcrs {
    values: PcrValues,
}

/// The hash over the PCR values: that of the attestation key's scheme (Part 3 §18.4).
const PCR_HASH: HashAlg = HashAlg::Sha256;
/// PCRs that firmware extends on every machine whose boot is measured.
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;
/// PCRs that a dynamic launch resets and extends, of which we read no log: ones since the TPM was started.
const DYNAMIC: std::ops::RangeInclusive<u8> = 17..=22;

impl Quote {
    /// Parses TPMS_ATTEST and TPMT_SIGNATURE (28, 29).
    ///
    /// # Errors
    ///
    /// One of them is malformed, the TPM did not make the statement, or it is no quote.
    pub fn parse(statement: &[u8], signature: &[u8]) -> Result<Self, Reject> {
        let attest = Attest::parse(statement).map_err(|error| Reject::Malformed(Part::Statement, error))?;
        let signature =
            Signature::parse(signature).map_err(|error| Reject::Malformed(Part::Signature, error))?;
        if attest.magic != Attest::MAGIC {
            return Err(Reject::AttestMagic);
        }
        let Attested::Quote {
            selection,
            pcr_digest,
        } = attest.attested.clone()
        else {
            return Err(Reject::AttestType);
        };
        Ok(Self {
            statement: statement.into(),
            attest,
            selection,
            pcr_digest,
            signature,
        })
    }

    /// Checks that it is about `binding` (31–33). Costs next to nothing, so it comes before any signature.
    ///
    /// # Errors
    ///
    /// [`Reject::ExtraData`] if it is about something else.
    pub fn check_binding(&self, binding: &Binding<'_>) -> Result<(), Reject> {
        constant_time::verify_slices_are_equal(&self.attest.extra_data, &binding.extra_data())
            .map_err(|_| Reject::ExtraData)
    }

    /// Verifies it: about `binding`, signed by `ak`, a primary key of the endorsement hierarchy (23, 24, 30–33).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(self, ak: &VerifiedAk, binding: &Binding<'_>) -> Result<VerifiedQuote, Reject> {
        self.check_binding(binding)?;
        self.check_signature(ak)?;
        // In any other hierarchy the TPM obfuscates clock and counts, and in the null hierarchy keys are nobody's.
        let signer = ak.key().name().qualified_under_endorsement();
        if signer.is_none_or(|signer| *signer.as_bytes() != *self.attest.qualified_signer) {
            return Err(Reject::QualifiedSigner);
        }
        Ok(VerifiedQuote {
            clock: self.attest.clock,
            firmware_version: self.attest.firmware_version,
            selection: self.selection,
            pcr_digest: self.pcr_digest,
        })
    }

    fn check_signature(&self, ak: &VerifiedAk) -> Result<(), Reject> {
        let Signature::Ecdsa {
            hash: HashAlg::Sha256,
            r,
            s,
        } = &self.signature
        else {
            return Err(Reject::SignatureScheme);
        };
        let PublicKey::Ecc(key) = &ak.key().public().key else {
            return Err(Reject::SignatureScheme);
        };
        let point = [&[4], &*key.x, &*key.y].concat();
        let signature = [fixed(r)?, fixed(s)?].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(&self.statement, &signature)
            .map_err(|_| Reject::SignatureInvalid)
    }
}

/// Half a signature in 32 bytes: some TPMs leave leading zeros out.
fn fixed(half: &[u8]) -> Result<[u8; 32], Reject> {
    let mut fixed = [0; 32];
    let padding = fixed
        .len()
        .checked_sub(half.len())
        .ok_or(Reject::SignatureInvalid)?;
    for (to, from) in fixed.iter_mut().skip(padding).zip(half) {
        *to = *from;
    }
    Ok(fixed)
}

impl VerifiedQuote {
    /// Which PCRs it covers.
    #[must_use]
    pub const fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// The digest over their values.
    #[must_use]
    pub fn pcr_digest(&self) -> &[u8] {
        &self.pcr_digest
    }

    /// Checks that it covers what was asked for, and banks that count (34, 37).
    ///
    /// # Errors
    ///
    /// [`Reject::PcrSelection`] if it covers something else, [`Reject::PcrBank`] if only SHA-1.
    pub fn over(self, wanted: &PcrSelection) -> Result<SelectedQuote, Reject> {
        if let Some((weak, _)) = self.selection.banks().find(|(alg, _)| *alg == HashAlg::Sha1)
            && self.selection.banks().count() == 1
        {
            return Err(Reject::PcrBank(weak));
        }
        if self.selection.is_same_set(wanted) {
            Ok(SelectedQuote(self))
        } else {
            Err(Reject::PcrSelection)
        }
    }
}

impl SelectedQuote {
    /// The quote.
    #[must_use]
    pub const fn quote(&self) -> &VerifiedQuote {
        &self.0
    }

    /// Checks that `log` explains it, and is a log of firmware that measures (36, 38, 46, 48, 49, 54). `claimed`
    /// are values that the prover read, to name the PCR that is not explained.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn explain(&self, log: &EventLog, claimed: Option<&PcrValues>) -> Result<VerifiedPcrs, Reject> {
        let values = event_log::explain(&self.0.selection, &self.0.pcr_digest, PCR_HASH, claimed, log)?;
        let pcrs = VerifiedPcrs::new(values, &self.0.selection)?;
        for (alg, set) in self.0.selection.banks().filter(|(alg, _)| *alg != HashAlg::Sha1) {
            event_log::Measurements::verify(log.clone(), alg, set)?;
        }
        Ok(pcrs)
    }

    /// Checks that it signs `values`, which a log explained before.
    ///
    /// # Errors
    ///
    /// [`Reject::PcrDigest`] if it signs others.
    pub fn matches(&self, values: &PcrValues) -> Result<VerifiedPcrs, Reject> {
        if values.digest(&self.0.selection, PCR_HASH).as_bytes() != &*self.0.pcr_digest {
            return Err(Reject::PcrDigest);
        }
        VerifiedPcrs::new(values.select(&self.0.selection), &self.0.selection)
    }
}

impl VerifiedPcrs {
    pub(crate) fn new(values: PcrValues, selection: &PcrSelection) -> Result<Self, Reject> {
        let firmware: PcrSet = FIRMWARE.collect();
        for (alg, index, value) in values.iter() {
            let counts = firmware.contains(index) && selection.of(alg).contains(index);
            // PCR 0 begins with the locality in its last byte.
            let extended = value.as_bytes().iter().rev().skip(1).any(|byte| *byte != 0);
            if counts && (!extended || value.is_filled(0xff)) {
                return Err(Reject::PcrUninitialized(index));
            }
            if DYNAMIC.contains(&index) && !value.is_filled(0xff) {
                return Err(Reject::PcrDynamicLaunch(index));
            }
        }
        Ok(Self { values })
    }

    /// The values.
    #[must_use]
    pub const fn values(&self) -> &PcrValues {
        &self.values
    }
}
