//! To which PCRs the server says that state may be sealed, on the wire and in the file.

use attest::{HashAlg, PcrSelection, PcrSet};
use plugin_api::Sealing;
use proto::plastron::{agent::v1 as wire, attest::v1 as attested};

/// Reads what the server says, or the file; `None` if nothing can be sealed to that.
pub(crate) fn sealing_from_wire(message: &wire::Sealing) -> Option<Sealing> {
    let bank = |bank: &attested::PcrSelection| {
        let alg = HashAlg::from_tpm(u16::try_from(bank.hash_alg).ok()?)?;
        Some((alg, PcrSet::from_mask(bank.pcrs)?))
    };
    let banks: Option<Vec<_>> = message.pcrs.iter().map(bank).collect();
    let pcrs = PcrSelection::new(banks?).ok()?;
    Sealing::new(pcrs, message.pcr_digest.as_slice().try_into().ok()?)
}

pub(crate) fn sealing_to_wire(sealing: &Sealing) -> wire::Sealing {
    let pcrs = sealing.pcrs().banks().map(|(alg, set)| attested::PcrSelection {
        hash_alg: alg.to_tpm().into(),
        pcrs: set.mask(),
    });
    wire::Sealing {
        pcrs: pcrs.collect(),
        pcr_digest: sealing.pcr_digest().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hash_alg: u32, pcrs: u32, digest: usize, is_good: bool) {
        let message = wire::Sealing {
            pcrs: vec![attested::PcrSelection { hash_alg, pcrs }],
            pcr_digest: vec![1; digest],
        };
        let read = sealing_from_wire(&message);
        assert_eq!(read.is_some(), is_good, "{message:?}");
        assert_eq!(
            read.map(|sealing| sealing_to_wire(&sealing)),
            is_good.then_some(message)
        );
    }

    #[test]
    fn pcrs_and_digest_are_checked() {
        check(0x0b, 0x4395, 32, true);
        check(0x0c, 0x0080, 32, true);
        check(0x0b, 0x4395, 31, false);
        check(0x0b, 0, 32, false);
        check(0x0b, 0x0400, 32, false);
        check(0x0b, 0x0100_0000, 32, false);
        check(0x04, 0x0080, 32, false);
        check(0x12, 0x0080, 32, false);
        assert_eq!(sealing_from_wire(&wire::Sealing::default()), None);
    }
}
