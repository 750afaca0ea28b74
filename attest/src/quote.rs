//! Quotes: what the TPM signed of its PCRs.

use crate::{
    Binding, HashAlg, PcrSelection, PcrSet, PcrValues, Reject, VerifiedAk,
    event_log::{self, EventLog},
    ima::{self, MeasurementList, Progress, ProvenList},
    statement::Statement,
    wire::{Attested, ClockInfo},
};

/// A quote as it came in, parsed; nothing of it is verified.
#[derive(Clone, Debug)]
pub struct Quote {
    statement: Statement,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
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

/// PCR values that a log explains and a quote signed. Only [`SelectedQuote::explain`],
/// [`SelectedQuote::explain_beside`] and [`SelectedQuote::matches`] make one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPcrs {
    values: PcrValues,
}

/// That of our attestation keys.
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
        let statement = Statement::parse(statement, signature)?;
        let Attested::Quote {
            selection,
            pcr_digest,
        } = statement.attest.attested.clone()
        else {
            return Err(Reject::AttestType);
        };
        Ok(Self {
            statement,
            selection,
            pcr_digest,
        })
    }

    /// Checks that it is about `binding` (31–33). Costs next to nothing, so it comes before any signature.
    ///
    /// # Errors
    ///
    /// [`Reject::ExtraData`] if it is about something else.
    pub fn check_binding(&self, binding: &Binding<'_>) -> Result<(), Reject> {
        self.statement.check_extra_data(&binding.extra_data())
    }

    /// Verifies it: about `binding`, signed by `ak`, a primary key of the endorsement hierarchy (23, 24, 30–33).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(self, ak: &VerifiedAk, binding: &Binding<'_>) -> Result<VerifiedQuote, Reject> {
        self.statement.check(ak, binding)?;
        Ok(self.verified())
    }

    fn verified(self) -> VerifiedQuote {
        VerifiedQuote {
            clock: self.statement.attest.clock,
            firmware_version: self.statement.attest.firmware_version,
            selection: self.selection,
            pcr_digest: self.pcr_digest,
        }
    }
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
        self.explain_beside(log, claimed, PcrSet::default())
    }

    /// The same, where PCRs of `unlogged` may hold what no event of the log extends: a policy says of those what they
    /// have to hold, and `claimed` what they do.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn explain_beside(
        &self,
        log: &EventLog,
        claimed: Option<&PcrValues>,
        unlogged: PcrSet,
    ) -> Result<VerifiedPcrs, Reject> {
        let VerifiedQuote {
            selection,
            pcr_digest,
            ..
        } = &self.0;
        let values = event_log::explain_beside(selection, pcr_digest, PCR_HASH, claimed, log, unlogged)?;
        let pcrs = VerifiedPcrs::new(values, &self.0.selection)?;
        for (alg, set) in self.0.selection.banks().filter(|(alg, _)| *alg != HashAlg::Sha1) {
            event_log::Measurements::verify(log.clone(), alg, set)?;
        }
        Ok(pcrs)
    }

    /// Finds the beginning of `list` that leads from `from` to what it signs, where the firmware's log left `boot` in the
    /// other PCRs; `offset` says how many entries of the boot came before (36, 38, 56, 58).
    ///
    /// # Errors
    ///
    /// As [`ima::explain`], and [`Reject::PcrUninitialized`] or [`Reject::PcrDynamicLaunch`].
    pub fn explain_list(
        &self,
        list: MeasurementList,
        offset: u64,
        from: &Progress,
        boot: &PcrValues,
    ) -> Result<(VerifiedPcrs, ProvenList), Reject> {
        let quoted = ima::Quoted::Digest {
            selection: &self.0.selection,
            pcr_digest: &self.0.pcr_digest,
            hash: PCR_HASH,
            others: boot,
        };
        let proven = ima::explain(list, offset, from, self.0.clock.reset_count, &quoted)?;
        let pcrs = self.matches(&boot.with(proven.progress().pcrs()))?;
        Ok((pcrs, proven))
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
