//! What a host may seal its state to: PCRs, and what they held in the evidence that was accepted last.
//!
//! The server says it, because it alone knows both: which PCRs decided, and what they were when it accepted them. What the
//! host reads later may be something else by then.

use attest::{HashAlg, Name, PcrSelection, PcrSet};
use zeroize::Zeroizing;

use crate::{Appraised, HostPolicies};

/// PCRs, and the digest over their values that counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealing {
    pcrs: PcrSelection,
    pcr_digest: [u8; 32],
}

/// A key that is sealed.
pub type SealedKey = Zeroizing<[u8; 32]>;

/// What is kept of a sealed key: of use to one TPM alone, while its PCRs are as they were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE, without its size.
    pub private: Vec<u8>,
    /// The PCRs.
    pub pcrs: PcrSelection,
    /// Name of the storage key: no other opens it.
    pub parent: Option<Name>,
}

/// Which PCRs count where no policy says so: firmware, boot loader, Secure Boot, kernel and initrd, shim's keys.
const STANDARD: [u8; 7] = [0, 2, 4, 7, 8, 9, 14];
/// PCRs that hold still once a host is up. 10 is extended with each file that the kernel measures, 11 with each phase of
/// the boot, 15 with what is unlocked and mounted; from 16 on programs may reset them.
const STEADY: [u8; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14];
/// Of the digest over values (Part 3 §23.7): that of the policy's session.
const HASH: HashAlg = HashAlg::Sha256;

impl Sealing {
    /// To these PCRs, with this SHA-256 over their values in the order of the selection. `None` if one of them does not
    /// hold still, a bank is SHA-1's, or there is none: what is sealed to nothing, anybody opens.
    #[must_use]
    pub fn new(pcrs: PcrSelection, pcr_digest: [u8; 32]) -> Option<Self> {
        let is_steady = |set: PcrSet| set.mask() != 0 && set.iter().all(|pcr| STEADY.contains(&pcr));
        let is_bank = |(bank, set)| bank != HashAlg::Sha1 && is_steady(set);
        let is_good = !pcrs.is_empty() && pcrs.banks().all(is_bank);
        is_good.then_some(Self { pcrs, pcr_digest })
    }

    /// What a host may seal to whose evidence came to `appraised`: the PCRs that its enforced policies need, as far as they
    /// were quoted. The standard ones take the place of those that can't be sealed to, beside the others, and of all where
    /// policies need none: a kernel that a policy knows by PCR 11 is held fast by 4, 8 and 9. Where no log tells their values
    /// one by one, all that were quoted.
    #[must_use]
    pub fn of(appraised: &Appraised, policies: &HostPolicies) -> Option<Self> {
        let Some(log) = &appraised.event_log else {
            return Self::new(appraised.selection.clone(), appraised.pcr_digest);
        };
        let (bank, quoted) = usual(&appraised.selection)?;
        let list = appraised.kernel_list.iter();
        let growing: PcrSet = list
            .flat_map(|list| list.progress.pcrs().iter().map(|(_, pcr, _)| pcr))
            .collect();
        let is_sealable = |pcr: &u8| {
            let is_known = log.values.get(bank, *pcr).is_some();
            STEADY.contains(pcr) && quoted.contains(*pcr) && is_known && !growing.contains(*pcr)
        };
        let required = policies.enforced_pcrs();
        let is_enough = required.mask() != 0 && required.iter().all(|pcr| is_sealable(&pcr));
        let standard = STANDARD.into_iter().filter(|_| !is_enough);
        let pcrs: PcrSet = required.iter().chain(standard).filter(is_sealable).collect();
        let pcrs = PcrSelection::new(vec![(bank, pcrs)]).ok()?;
        let held = log.values.digest(&pcrs, HASH);
        Self::new(pcrs, held.as_bytes().try_into().ok()?)
    }

    /// The PCRs.
    #[must_use]
    pub const fn pcrs(&self) -> &PcrSelection {
        &self.pcrs
    }

    /// SHA-256 over their values.
    #[must_use]
    pub const fn pcr_digest(&self) -> &[u8; 32] {
        &self.pcr_digest
    }
}

/// The bank of SHA-256 where it was quoted, else the first.
fn usual(selection: &PcrSelection) -> Option<(HashAlg, PcrSet)> {
    let mut banks = selection.banks();
    banks
        .find(|(bank, _)| *bank == HASH)
        .or_else(|| selection.banks().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sealed_to_no_pcrs_nor_to_those_that_go_on() {
        let check = |pcrs: &str, is_good: bool| {
            let pcrs: PcrSelection = pcrs.parse().unwrap();
            assert_eq!(Sealing::new(pcrs.clone(), [0; 32]).is_some(), is_good, "{pcrs}");
        };
        check("sha256:0,2,4,7,8,9,14", true);
        check("sha256:7+sha384:7", true);
        for pcr in [10, 11, 15, 16, 17, 23] {
            check(&format!("sha256:7,{pcr}"), false);
        }
        assert_eq!(Sealing::new(PcrSelection::default(), [0; 32]), None);
        let empty = PcrSelection::new(vec![(HashAlg::Sha256, PcrSet::default())]).unwrap();
        assert_eq!(Sealing::new(empty, [0; 32]), None);
    }
}
