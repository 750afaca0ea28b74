//! What a log is compared with: nothing, values that somebody read, or values that a TPM signed.

use super::Finding;
use crate::{
    HashAlg, PcrSet, PcrValues, Reject,
    event_log::{EventLog, UKI_PCR},
    ima,
};

/// The values of PCRs that a log has to explain, and whose word they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compared<'a> {
    /// None are known: all that the log says is its own word.
    Nothing,
    /// Somebody read them.
    Read(&'a PcrValues),
    /// A TPM signed them.
    Quoted(&'a PcrValues),
    /// A TPM signed them, and the kernel's list explains those of IMA.
    Listed(&'a PcrValues),
}

/// PCRs that programs extend without telling firmware's log: IMA, systemd, and whoever debugs.
const UNLOGGED: [u8; 5] = [ima::PCR, UKI_PCR, 15, 16, 23];

impl<'a> Compared<'a> {
    pub(super) const fn values(self) -> Option<&'a PcrValues> {
        match self {
            Self::Nothing => None,
            Self::Read(values) | Self::Quoted(values) | Self::Listed(values) => Some(values),
        }
    }

    /// The PCRs of a bank whose values are known; all, if nothing is known of any. The others prove nothing
    /// (35).
    pub(super) fn covered(self, alg: HashAlg) -> PcrSet {
        let Some(values) = self.values() else {
            return (0..PcrSet::COUNT).collect();
        };
        let known = values.iter().filter(|(bank, ..)| *bank == alg);
        known.map(|(_, pcr, _)| pcr).collect()
    }

    /// The bank to judge by: the strongest above SHA-1 that is in the log and among the values. Of another one whoever
    /// wrote the log may have invented all digests. Where no values are known, that is so of all: then the strongest that
    /// each event has, because Windows leaves out some that firmware extends.
    pub(super) fn bank(self, log: &EventLog) -> Result<HashAlg, Reject> {
        let is_shared = |alg: &HashAlg| *alg != HashAlg::Sha1 && self.covered(*alg) != PcrSet::default();
        let is_whole = |alg: &HashAlg| self.values().is_some() || log.replay(*alg).is_ok();
        let whole = log.banks().filter(is_shared).filter(is_whole).max();
        whole
            .or_else(|| log.banks().filter(is_shared).max())
            .ok_or(match self {
                Self::Nothing => Reject::LogBank(HashAlg::Sha256),
                Self::Read(_) | Self::Quoted(_) | Self::Listed(_) => Reject::PcrBank(HashAlg::Sha1),
            })
    }

    /// What becomes of a bank that can't be replayed: refused is the one that is judged by, and each other above SHA-1 that
    /// values are known of.
    pub(super) fn unreplayed(self, alg: HashAlg, bank: Option<HashAlg>, reject: Reject) -> Finding {
        let is_known = self.values().is_some() && self.covered(alg) != PcrSet::default();
        if alg != HashAlg::Sha1 && (Some(alg) == bank || is_known) {
            Finding::refused(reject)
        } else {
            Finding::noted(reject)
        }
    }

    /// A PCR that the log does not explain. What was quoted has to be explained, but for what IMA extended, of which
    /// nothing is to be said where its list explains it.
    pub(super) fn mismatch(self, alg: HashAlg, pcr: u8) -> Option<Finding> {
        let reject = Reject::LogMismatch(alg, pcr);
        let is_noted = match self {
            Self::Listed(_) if pcr == ima::PCR => return None,
            Self::Listed(_) | Self::Quoted(_) => pcr == ima::PCR,
            Self::Nothing | Self::Read(_) => UNLOGGED.contains(&pcr),
        };
        Some(if is_noted {
            Finding::noted(reject)
        } else {
            Finding::refused(reject)
        })
    }
}
