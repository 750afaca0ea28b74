//! The first entry of a boot: a digest over the PCRs that firmware and boot loader extended (check 57). It ties the
//! list to the very boot whose PCRs were quoted.

use super::{Entry, Hashing, MeasurementList, ProvenList};
use crate::{HashAlg, PcrSelection, PcrSet, PcrValues, Reject};

const NAME: &[u8] = b"boot_aggregate";

/// What the first entry of a boot says of the PCRs.
struct Aggregate<'a> {
    alg: HashAlg,
    digest: &'a [u8],
}

impl MeasurementList {
    /// Checks that it begins with the digest over `pcrs`, as far as those tell: kernels that took another bank are let
    /// pass. PCRs that were quoted with it tie it to the boot as well; so this finds a list that was made up.
    ///
    /// # Errors
    ///
    /// [`Reject::ImaBootAggregate`] if it begins with something else, or the digest is another.
    pub fn check_boot(&self, pcrs: &PcrValues) -> Result<(), Reject> {
        let aggregate = Aggregate::of(self.entries().next()).ok_or(Reject::ImaBootAggregate)?;
        if aggregate.is_of(pcrs) || !is_known(pcrs, aggregate.alg) {
            Ok(())
        } else {
            Err(Reject::ImaBootAggregate)
        }
    }
}

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
        let aggregate = Aggregate::of(self.entries().next()).ok_or(Reject::ImaBootAggregate)?;
        if aggregate.is_of(pcrs) {
            Ok(self)
        } else {
            Err(Reject::ImaBootAggregate)
        }
    }

    /// Whether `pcrs` are enough to say that it is not of this boot: all of the bank that the kernel took. If they are not,
    /// that the digest is another proves nothing.
    pub(crate) fn can_be_told_from(&self, pcrs: &PcrValues) -> bool {
        let Some(aggregate) = Aggregate::of(self.entries().next()) else {
            return true;
        };
        is_known(pcrs, aggregate.alg)
            || self.hashing() == Hashing::PaddedSha1 && is_known(pcrs, HashAlg::Sha1)
    }
}

impl<'a> Aggregate<'a> {
    fn of(first: Option<Entry<'a>>) -> Option<Self> {
        let file = first.filter(|entry| entry.path() == Some(NAME))?.file_digest()?;
        Some(Self {
            alg: alg_of(file.alg)?,
            digest: file.digest,
        })
    }

    fn is_of(&self, pcrs: &PcrValues) -> bool {
        let ways = [(self.alg, 0..=9), (self.alg, 0..=7), (HashAlg::Sha1, 0..=7)];
        ways.into_iter().any(|(bank, range)| {
            let set: PcrSet = range.collect();
            let selection = PcrSelection::new(vec![(bank, set)]).unwrap_or_default();
            covers(pcrs, bank, set) && pcrs.digest(&selection, self.alg).as_bytes() == self.digest
        })
    }
}

/// Whether all PCRs of the bank are known that a kernel takes.
fn is_known(pcrs: &PcrValues, bank: HashAlg) -> bool {
    let last = if bank == HashAlg::Sha1 { 7 } else { 9 };
    covers(pcrs, bank, (0..=last).collect())
}

fn covers(pcrs: &PcrValues, bank: HashAlg, set: PcrSet) -> bool {
    set.iter().all(|pcr| pcrs.get(bank, pcr).is_some())
}

fn alg_of(name: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| alg.to_string() == name)
}
