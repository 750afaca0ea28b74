//! Reading PCRs, and their selections as libtss2 takes them.

use attest::{Digest, HashAlg, PcrSelection, PcrSet, PcrValues};
use plugin_api::TpmError;
use tss_esapi::{
    Error,
    structures::PcrSelectionList,
    tss2_esys::{TPML_PCR_SELECTION, TPMS_PCR_SELECTION},
};

use crate::{
    device::Open,
    error::{failed, is_unknown_hash},
};

impl Open {
    /// The values of the selected PCRs. Those of banks that are not active are left out.
    pub(crate) fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let mut values = PcrValues::default();
        for (bank, set) in selection.banks() {
            match self.read_bank(bank, set, &mut values) {
                // A TPM without that hash has no such bank either.
                Err(error) if is_unknown_hash(error) => {}
                read => read.map_err(failed("TPM2_PCR_Read"))?,
            }
        }
        Ok(values)
    }

    /// A TPM answers with as many values as fit, usually eight.
    fn read_bank(&mut self, bank: HashAlg, set: PcrSet, values: &mut PcrValues) -> Result<(), Error> {
        let mut wanted = set.mask();
        while wanted != 0 {
            let (_, read, digests) = self.context.pcr_read(to_list([(bank, wanted)])?)?;
            let read = mask_of(&TPML_PCR_SELECTION::from(read), bank) & wanted;
            if read == 0 {
                break;
            }
            let indices: PcrSet = set.iter().filter(|index| read & 1 << index != 0).collect();
            for (index, digest) in indices.iter().zip(digests.value()) {
                values.set(bank, index, digest.value().iter().copied().collect::<Digest>());
            }
            wanted &= !read;
        }
        Ok(())
    }
}

/// In the order of `selection`: the digest in the quote depends on it. (The builder of tss-esapi 7.7 keeps banks in
/// a hash map, and so in random order.)
pub(crate) fn to_tpm(selection: &PcrSelection) -> Result<PcrSelectionList, Error> {
    to_list(selection.banks().map(|(bank, set)| (bank, set.mask())))
}

fn to_list(banks: impl IntoIterator<Item = (HashAlg, u32)>) -> Result<PcrSelectionList, Error> {
    let mut list = TPML_PCR_SELECTION::default();
    for (place, (bank, mask)) in list.pcrSelections.iter_mut().zip(banks) {
        *place = TPMS_PCR_SELECTION {
            hash: bank.to_tpm(),
            sizeofSelect: 3,
            pcrSelect: mask.to_le_bytes(),
        };
        list.count += 1;
    }
    list.try_into()
}

fn mask_of(list: &TPML_PCR_SELECTION, bank: HashAlg) -> u32 {
    list.pcrSelections
        .iter()
        .filter(|selection| selection.hash == bank.to_tpm())
        .map(|selection| u32::from_le_bytes(selection.pcrSelect))
        .fold(0, |mask, more| mask | more)
}
