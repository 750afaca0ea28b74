//! The first entry of a boot: a digest over the PCRs that firmware and boot loader extended (check 57). It ties the
//! list to the very boot whose PCRs were quoted.

use super::{Hashing, ProvenList};
use crate::{HashAlg, PcrSelection, PcrSet, PcrValues, Reject};

const NAME: &[u8] = b"boot_aggregate";

impl ProvenList {
    /// Checks that the list begins with the digest over `pcrs`, those that were quoted with it.
    ///
    /// Linux since 5.8 takes PCRs 0–9 of a bank of the digest's own hash, or 0–7 if that is SHA-1. Before, it took
    /// 0–7 of the SHA-1 bank, whatever the hash.
    ///
    /// # Errors
    ///
    /// [`Reject::ImaBootAggregate`] if it does not, or the bank was not quoted; [`Reject::ImaContinuity`] if it does
    /// not begin with the first entry of a boot.
    pub fn from_this_boot(self, pcrs: &PcrValues) -> Result<Self, Reject> {
        if !self.begins_with_boot() {
            return Err(Reject::ImaContinuity);
        }
        let (alg, expected) = self.boot_aggregate().ok_or(Reject::ImaBootAggregate)?;
        let ways = [(alg, 0..=9), (alg, 0..=7), (HashAlg::Sha1, 0..=7)];
        let is_boot = ways.into_iter().any(|(bank, range)| {
            let set: PcrSet = range.collect();
            let selection = PcrSelection::new(vec![(bank, set)]).unwrap_or_default();
            covers(pcrs, bank, set) && pcrs.digest(&selection, alg).as_bytes() == expected
        });
        if is_boot {
            Ok(self)
        } else {
            Err(Reject::ImaBootAggregate)
        }
    }

    /// Whether `pcrs` are enough to say that it is not of this boot: all of the bank that the kernel took. If they are not,
    /// that the digest is another proves nothing.
    pub(crate) fn can_be_told_from(&self, pcrs: &PcrValues) -> bool {
        let Some((alg, _)) = self.boot_aggregate() else {
            return true;
        };
        let is_known = |bank| {
            covers(
                pcrs,
                bank,
                (0..=if bank == HashAlg::Sha1 { 7 } else { 9 }).collect(),
            )
        };
        is_known(alg) || self.hashing() == Hashing::PaddedSha1 && is_known(HashAlg::Sha1)
    }

    /// The first entry's digest and its hash.
    fn boot_aggregate(&self) -> Option<(HashAlg, &[u8])> {
        let first = self.entries().next().filter(|entry| entry.path() == Some(NAME))?;
        let file = first.file_digest()?;
        Some((alg_of(file.alg)?, file.digest))
    }
}

fn covers(pcrs: &PcrValues, bank: HashAlg, set: PcrSet) -> bool {
    set.iter().all(|pcr| pcrs.get(bank, pcr).is_some())
}

fn alg_of(name: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| alg.to_string() == name)
}
