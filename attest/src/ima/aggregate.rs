//! The first entry of a boot: a digest over the PCRs that firmware and boot loader extended (check 57). It ties the
//! list to the very boot whose PCRs were quoted.

use super::ProvenList;
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
        let first = self.entries().next().filter(|entry| entry.path() == Some(NAME));
        let digest = first
            .and_then(|entry| entry.file_digest())
            .ok_or(Reject::ImaBootAggregate)?;
        let alg = alg_of(digest.alg).ok_or(Reject::ImaBootAggregate)?;
        let ways = [(alg, 0..=9), (alg, 0..=7), (HashAlg::Sha1, 0..=7)];
        let is_boot = ways.into_iter().any(|(bank, range)| {
            let set: PcrSet = range.collect();
            let known = set.iter().all(|pcr| pcrs.get(bank, pcr).is_some());
            let selection = PcrSelection::new(vec![(bank, set)]).unwrap_or_default();
            known && pcrs.digest(&selection, alg).as_bytes() == digest.digest
        });
        if is_boot {
            Ok(self)
        } else {
            Err(Reject::ImaBootAggregate)
        }
    }
}

fn alg_of(name: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| alg.to_string() == name)
}
