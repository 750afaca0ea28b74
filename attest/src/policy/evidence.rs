//! What a policy is compared with: PCR values that were proven, and the log that explains them.

use super::{Reference, difference::EventPlace, parse::BANKS};
use crate::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject, VerifiedPcrs,
    event_log::{Content, EventKind, EventLog, Measurement, Measurements, unlogged_words},
    ima::ProvenList,
};

/// Proven PCRs with the log that explains them, and what else is known of the boot.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    values: PcrValues,
    log: EventLog,
    /// Of each bank, strongest first: the PCRs that the log explains.
    banks: Vec<(PcrSet, Measurements)>,
    tpm_firmware: Option<u64>,
    command_line: Option<&'a str>,
    ima: Option<&'a ProvenList>,
}

/// What a PCR was extended by, in all banks that are proven.
#[derive(Clone, Debug)]
pub(super) struct Measured<'a> {
    pub(super) pcr: u8,
    pub(super) index: u32,
    pub(super) digests: Vec<Reference>,
    pub(super) content: Content<'a>,
    claimed: EventKind,
}

/// PCRs that the firmware's log has to explain; others may be extended without being written into it.
const LOGGED: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

impl<'a> Evidence<'a> {
    /// Of PCRs that a quote and this log just proved.
    ///
    /// # Errors
    ///
    /// As [`recorded`](Self::recorded).
    pub fn proven(pcrs: &VerifiedPcrs, log: &EventLog) -> Result<Self, Reject> {
        Self::recorded(pcrs.values(), log)
    }

    /// Of values as they were kept from a [`VerifiedPcrs`]. With values that nobody signed this is for trying a policy
    /// offline, and proves nothing.
    ///
    /// # Errors
    ///
    /// [`Reject::LogMismatch`] if the log does not explain a value, [`Reject::PcrBank`] if there are none but of
    /// SHA-1, and what [`Measurements::verify`] refuses.
    pub fn recorded(values: &PcrValues, log: &EventLog) -> Result<Self, Reject> {
        let mut banks = Vec::new();
        for alg in BANKS {
            let pcrs = values.iter().filter(|(bank, ..)| *bank == alg);
            let pcrs: PcrSet = pcrs.map(|(_, pcr, _)| pcr).collect();
            if pcrs.mask() != 0 {
                let explained = explained(values, log, alg, pcrs)?;
                let measurements = Measurements::verify(log.clone(), alg, explained)?;
                banks.push((explained, measurements.with_end(values)));
            }
        }
        if banks.is_empty() {
            return Err(Reject::PcrBank(HashAlg::Sha1));
        }
        Ok(Self {
            values: values.clone(),
            log: log.clone(),
            banks,
            tpm_firmware: None,
            command_line: None,
            ima: None,
        })
    }

    /// The TPM says in each quote which firmware it has.
    #[must_use]
    pub fn with_tpm_firmware(self, version: u64) -> Self {
        Self {
            tpm_firmware: Some(version),
            ..self
        }
    }

    /// A command line that the host says it has. It is shown, and believed, only where its digest was measured.
    #[must_use]
    pub fn with_command_line(self, text: &'a str) -> Self {
        Self {
            command_line: Some(text),
            ..self
        }
    }

    /// What the kernel measured, proven by the same quote. Whether it begins with this boot is for who proves it to
    /// ask: [`ProvenList::from_this_boot`].
    #[must_use]
    pub fn with_ima(self, list: &'a ProvenList) -> Self {
        Self {
            ima: Some(list),
            ..self
        }
    }

    /// The values.
    #[must_use]
    pub const fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The TPM's firmware, if it is known.
    pub(super) const fn tpm_firmware(&self) -> Option<u64> {
        self.tpm_firmware
    }

    pub(super) const fn command_line(&self) -> Option<&'a str> {
        self.command_line
    }

    pub(super) const fn ima(&self) -> Option<&'a ProvenList> {
        self.ima
    }

    /// The banks that are proven, strongest first.
    pub(super) fn algs(&self) -> impl Iterator<Item = HashAlg> {
        self.banks.iter().map(|(_, measurements)| measurements.alg())
    }

    /// What the strongest bank says that proves `pcr` and has a log for it.
    pub(super) fn measurements(&self, pcr: u8) -> Option<&Measurements> {
        let mut banks = self.banks.iter().filter(|(set, _)| set.contains(pcr));
        banks.next().map(|(_, measurements)| measurements)
    }

    /// All that `pcr` was extended by; nothing if it was not quoted, or no log explains it.
    pub(super) fn events(&self, pcr: u8) -> Option<Vec<Measured<'_>>> {
        let mut banks = self.banks.iter().filter(|(set, _)| set.contains(pcr));
        let (_, strongest) = banks.next()?;
        let mut events: Vec<_> = strongest
            .of(pcr)?
            .map(|event| Measured::of(pcr, &event, strongest.alg()))
            .collect();
        for (_, bank) in banks {
            for (known, event) in events.iter_mut().zip(bank.of(pcr)?) {
                known.digests.extend(Reference::new(bank.alg(), event.digest));
            }
        }
        Some(events)
    }

    /// What the log says of the event at `index`, for display.
    pub(super) fn remark(&self, index: u32) -> Option<String> {
        let event = self.log.events().find(|event| event.index == index)?;
        Some(format!("event {index}, {}: {}", event.kind, event.remark()))
    }
}

impl<'a> Measured<'a> {
    fn of(pcr: u8, event: &Measurement<'a>, alg: HashAlg) -> Self {
        Self {
            pcr,
            index: event.index,
            digests: Reference::new(alg, event.digest).into_iter().collect(),
            content: event.content,
            claimed: event.claimed,
        }
    }

    pub(super) fn is(&self, reference: &Reference) -> bool {
        self.digests.contains(reference)
    }

    /// Its digest of the hash `alg`, or else of the strongest that is proven.
    pub(super) fn digest(&self, alg: HashAlg) -> String {
        let of_alg = self.digests.iter().find(|digest| digest.alg() == alg);
        of_alg
            .or_else(|| self.digests.first())
            .map_or_else(|| "nothing".into(), Reference::to_string)
    }

    pub(super) fn place(&self) -> EventPlace {
        EventPlace {
            index: self.index,
            pcr: self.pcr,
            claimed: Some(self.claimed),
        }
    }
}

/// The PCRs of `pcrs` that the log explains. Those that it need not explain may be missing.
fn explained(values: &PcrValues, log: &EventLog, alg: HashAlg, pcrs: PcrSet) -> Result<PcrSet, Reject> {
    let selection = PcrSelection::new(vec![(alg, pcrs)]).map_err(|_| Reject::PcrSelection)?;
    let replayed = log.replay_of(alg, pcrs)?.select(&selection);
    let mut explained = Vec::new();
    for pcr in pcrs.iter() {
        let is_explained =
            replayed.get(alg, pcr) == values.get(alg, pcr) || unlogged_words(log, values, alg, pcr).is_some();
        if is_explained {
            explained.push(pcr);
        } else if LOGGED.contains(&pcr) || log.events().any(|event| event.pcr == pcr) {
            return Err(Reject::LogMismatch(alg, pcr));
        }
    }
    Ok(explained.into_iter().collect())
}
