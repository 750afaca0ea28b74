//! Platform Configuration Registers: which ones, their values, and the digest that a quote signs.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    Digest, HashAlg,
    wire::{Reader, WireError},
};

/// Which PCRs of which banks. Banks are in the order in which they were given: the digest depends on it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PcrSelection(Vec<(HashAlg, PcrSet)>);

/// PCRs of one bank: bit n stands for PCR n, of 24.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PcrSet(u32);

impl PcrSet {
    /// How many PCRs a PC Client TPM has.
    pub const COUNT: u8 = 24;

    /// From a bit mask; bits above PCR 23 are refused.
    #[must_use]
    pub const fn from_mask(mask: u32) -> Option<Self> {
        if mask >> Self::COUNT == 0 {
            Some(Self(mask))
        } else {
            None
        }
    }

    /// As a bit mask.
    #[must_use]
    pub const fn mask(self) -> u32 {
        self.0
    }

    /// Whether PCR `index` is in the set.
    #[must_use]
    pub const fn contains(self, index: u8) -> bool {
        index < Self::COUNT && self.0 & 1 << index != 0
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::COUNT).filter(move |index| self.contains(*index))
    }
}

impl FromIterator<u8> for PcrSet {
    /// Indices above 23 are left out.
    fn from_iter<I: IntoIterator<Item = u8>>(indices: I) -> Self {
        Self(
            indices
                .into_iter()
                .filter(|index| *index < Self::COUNT)
                .fold(0, |mask, index| mask | 1 << index),
        )
    }
}

impl PcrSelection {
    /// Most banks in a selection.
    pub const MAX_BANKS: usize = 4;

    /// `sha256:0-9,14`: firmware, boot loader, kernel as far as logs explain them.
    #[must_use]
    pub fn standard() -> Self {
        Self(vec![(HashAlg::Sha256, (0..=9).chain([14]).collect())])
    }

    /// From banks in the order in which the TPM is to report them.
    ///
    /// # Errors
    ///
    /// A bank comes twice, none comes, or there are more than any TPM has.
    pub fn new(banks: Vec<(HashAlg, PcrSet)>) -> Result<Self, WireError> {
        let twice = |(index, (alg, _)): (usize, &(HashAlg, PcrSet))| {
            banks.iter().take(index).any(|(earlier, _)| earlier == alg)
        };
        if banks.iter().enumerate().any(twice) {
            return Err(WireError::BankTwice);
        }
        if banks.is_empty() || banks.len() > Self::MAX_BANKS {
            return Err(WireError::OutOfBounds);
        }
        Ok(Self(banks))
    }

    /// Reads a TPML_PCR_SELECTION (Part 2 §10.9.7). It may be empty, as some provers' are. A bank that stands twice, one
    /// right behind the other in ascending order, as `sha256:16+sha256:23`, is the same as one: so is its digest.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.u32()?;
        if count > 16 {
            return Err(WireError::OutOfBounds);
        }
        let mut banks = Vec::new();
        for _ in 0..count {
            let alg = reader.u16()?;
            let mask = read_bitmap(reader)?;
            // A TPM lists every bank it has; those of which nothing is selected say nothing.
            if mask.mask() == 0 {
                continue;
            }
            push(
                &mut banks,
                HashAlg::from_tpm(alg).ok_or(WireError::Unsupported)?,
                mask,
            );
        }
        if banks.is_empty() {
            Ok(Self::default())
        } else {
            Self::new(banks)
        }
    }

    /// Banks with their PCRs, in the order of the quote.
    pub fn banks(&self) -> impl Iterator<Item = (HashAlg, PcrSet)> {
        self.0.iter().copied()
    }

    /// The PCRs selected of `alg`.
    #[must_use]
    pub fn of(&self, alg: HashAlg) -> PcrSet {
        self.banks()
            .find(|(bank, _)| *bank == alg)
            .map(|(_, set)| set)
            .unwrap_or_default()
    }

    /// Whether both select the same PCRs of the same banks, in any order.
    #[must_use]
    pub fn is_same_set(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|bank| other.0.contains(bank))
    }

    /// How many PCR values the selection stands for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0
            .iter()
            .map(|(_, set)| set.mask().count_ones() as usize)
            .sum()
    }

    /// Whether nothing is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Adds to the bank before if that comes to the same digest, which is over the values in the selection's order. A bank that
/// stands twice in any other order is left for [`PcrSelection::new`] to refuse.
fn push(banks: &mut Vec<(HashAlg, PcrSet)>, alg: HashAlg, set: PcrSet) {
    match banks.last_mut() {
        Some((last, earlier)) if *last == alg && earlier.iter().max() < set.iter().min() => {
            *earlier = PcrSet(earlier.0 | set.0);
        }
        _ => banks.push((alg, set)),
    }
}

/// TPMS_PCR_SELECT: PCR n is bit n % 8 of byte n / 8.
fn read_bitmap(reader: &mut Reader<'_>) -> Result<PcrSet, WireError> {
    let size = usize::from(reader.u8()?);
    if !(1..=4).contains(&size) {
        return Err(WireError::OutOfBounds);
    }
    let bytes = reader.take(size)?;
    let mask = bytes
        .iter()
        .rev()
        .fold(0, |mask, byte| mask << 8 | u32::from(*byte));
    PcrSet::from_mask(mask).ok_or(WireError::OutOfBounds)
}

/// `sha256:0,1,2+sha384:0`.
impl fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (alg, set)) in self.0.iter().enumerate() {
            let indices: Vec<_> = set.iter().map(|index| index.to_string()).collect();
            write!(
                f,
                "{}{alg}:{}",
                if position == 0 { "" } else { "+" },
                indices.join(",")
            )?;
        }
        Ok(())
    }
}

/// A text is no selection of PCRs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a selection of PCRs reads `sha256:0-9,14` or `sha256:0-7+sha384:0-7`; banks are sha256, sha384 and sha512, PCRs 0 to 23"
)]
pub struct PcrSelectionError;

impl FromStr for PcrSelection {
    type Err = PcrSelectionError;

    /// SHA-1 is no bank to decide on, and is refused.
    fn from_str(text: &str) -> Result<Self, PcrSelectionError> {
        let banks = text.split('+').map(bank).collect::<Option<_>>();
        Self::new(banks.ok_or(PcrSelectionError)?).map_err(|_| PcrSelectionError)
    }
}

fn bank(text: &str) -> Option<(HashAlg, PcrSet)> {
    let (alg, pcrs) = text.split_once(':')?;
    let alg = match alg.trim() {
        "sha256" => HashAlg::Sha256,
        "sha384" => HashAlg::Sha384,
        "sha512" => HashAlg::Sha512,
        _ => return None,
    };
    let ranges: Option<Vec<_>> = pcrs.split(',').map(range).collect();
    Some((alg, ranges?.into_iter().flatten().collect()))
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u8>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < PcrSet::COUNT).then_some(first..=last)
}

/// Values of PCRs, by bank and index.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PcrValues(BTreeMap<(HashAlg, u8), Digest>);

impl PcrValues {
    /// The value of a PCR, if it is known.
    #[must_use]
    pub fn get(&self, alg: HashAlg, index: u8) -> Option<&Digest> {
        self.0.get(&(alg, index))
    }

    /// Notes the value of a PCR.
    pub fn set(&mut self, alg: HashAlg, index: u8, value: Digest) {
        self.0.insert((alg, index), value);
    }

    /// Extends a PCR by a digest: its new value is the hash over the old one and `digest`.
    pub fn extend(&mut self, alg: HashAlg, index: u8, digest: &[u8]) {
        let old = self
            .0
            .get(&(alg, index))
            .copied()
            .unwrap_or_else(|| initial(alg, index));
        self.set(alg, index, alg.digest(&[old.as_bytes(), digest]));
    }

    /// All known values, by bank and index.
    pub fn iter(&self) -> impl Iterator<Item = (HashAlg, u8, &Digest)> {
        self.0.iter().map(|((alg, index), value)| (*alg, *index, value))
    }

    /// These, and in their place those of `other` where it has any.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.0.extend(&other.0);
        both
    }

    /// The values of `selection`; PCRs that are not known have what a reset leaves in them.
    #[must_use]
    pub fn select(&self, selection: &PcrSelection) -> Self {
        let mut selected = Self::default();
        for (alg, set) in selection.banks() {
            for index in set.iter() {
                let value = self
                    .get(alg, index)
                    .copied()
                    .unwrap_or_else(|| initial(alg, index));
                selected.set(alg, index, value);
            }
        }
        selected
    }

    /// The digest that a quote over `selection` holds: the values bank by bank in the selection's order, each
    /// bank's in ascending order (Part 1 §17.6), hashed with `hash`.
    #[must_use]
    pub fn digest(&self, selection: &PcrSelection, hash: HashAlg) -> Digest {
        let selected = self.select(selection);
        let mut values = Vec::new();
        for (alg, set) in selection.banks() {
            values.extend(
                set.iter()
                    .filter_map(|index| selected.get(alg, index))
                    .map(Digest::as_bytes),
            );
        }
        hash.digest(&values)
    }
}

/// What a TPM reset leaves in a PCR: ones in those of a dynamic launch, zeros elsewhere (PFP §3.3).
fn initial(alg: HashAlg, index: u8) -> Digest {
    Digest::filled(if (17..=22).contains(&index) { 0xff } else { 0 }, alg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bitmaps_low_byte_first() {
        let bytes = [0, 0, 0, 2, 0, 4, 3, 0, 0, 0, 0, 0x0b, 3, 0x81, 0x00, 0x80];
        let selection = PcrSelection::read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(selection.to_string(), "sha256:0,7,23");
    }

    #[test]
    fn a_bank_twice_in_ascending_order_is_one() {
        let check = |masks: &[u8], expected: Result<&str, WireError>| {
            let count = u8::try_from(masks.len()).unwrap();
            let bank = |mask: &u8| [0, 0x0b, 1, *mask];
            let bytes: Vec<u8> = [0, 0, 0, count]
                .into_iter()
                .chain(masks.iter().flat_map(bank))
                .collect();
            let read = PcrSelection::read(&mut Reader::new(&bytes)).map(|read| read.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{masks:?}");
        };
        check(&[1, 2], Ok("sha256:0,1"));
        check(&[1, 0, 0x0c, 0x80], Ok("sha256:0,2,3,7"));
        for other in [[2, 1], [1, 1], [5, 2]] {
            check(&other, Err(WireError::BankTwice));
        }
    }

    #[test]
    fn refuses_banks_twice_and_unknown_ones() {
        let twice = [0, 0, 0, 3, 0, 0x0b, 1, 1, 0, 4, 1, 1, 0, 0x0b, 1, 2];
        assert_eq!(
            PcrSelection::read(&mut Reader::new(&twice)),
            Err(WireError::BankTwice)
        );
        let unknown = [0, 0, 0, 1, 0, 0x12, 1, 1];
        assert_eq!(
            PcrSelection::read(&mut Reader::new(&unknown)),
            Err(WireError::Unsupported)
        );
        let many = [0, 0, 1, 0];
        assert_eq!(
            PcrSelection::read(&mut Reader::new(&many)),
            Err(WireError::OutOfBounds)
        );
        let high = [0, 0, 0, 1, 0, 0x0b, 4, 0, 0, 0, 1];
        assert_eq!(
            PcrSelection::read(&mut Reader::new(&high)),
            Err(WireError::OutOfBounds)
        );
    }

    #[test]
    fn reads_what_an_operator_writes() {
        let check = |text: &str, expected: Option<&str>| {
            let read = text.parse::<PcrSelection>().ok().map(|read| read.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        check("sha256:0-9,14", Some("sha256:0,1,2,3,4,5,6,7,8,9,14"));
        check("sha384: 7 + sha256: 0, 2-3", Some("sha384:7+sha256:0,2,3"));
        for wrong in [
            "",
            "sha1:0",
            "sha256",
            "sha256:",
            "sha256:24",
            "sha256:3-1",
            "sha256:0+sha256:1",
            "md5:0",
        ] {
            check(wrong, None);
        }
        assert_eq!("sha256:0-9,14".parse(), Ok(PcrSelection::standard()));
    }

    #[test]
    fn extends_from_what_a_reset_leaves() {
        let mut values = PcrValues::default();
        values.extend(HashAlg::Sha256, 0, &[1; 32]);
        let expected = HashAlg::Sha256.digest(&[&[0; 32], &[1; 32]]);
        assert_eq!(values.get(HashAlg::Sha256, 0), Some(&expected));
        values.extend(HashAlg::Sha256, 17, &[1; 32]);
        let expected = HashAlg::Sha256.digest(&[&[0xff; 32], &[1; 32]]);
        assert_eq!(values.get(HashAlg::Sha256, 17), Some(&expected));
    }

    #[test]
    fn digests_in_the_order_of_the_selection() {
        let (low, high) = (
            Digest::filled(1, HashAlg::Sha256),
            Digest::filled(2, HashAlg::Sha384),
        );
        let mut values = PcrValues::default();
        values.set(HashAlg::Sha256, 3, low);
        values.set(HashAlg::Sha384, 1, high);
        let one: PcrSet = [1].into_iter().collect();
        let three: PcrSet = [3].into_iter().collect();
        let ordered = PcrSelection::new(vec![(HashAlg::Sha384, one), (HashAlg::Sha256, three)]).unwrap();
        let expected = HashAlg::Sha256.digest(&[high.as_bytes(), low.as_bytes()]);
        assert_eq!(values.digest(&ordered, HashAlg::Sha256), expected);
    }
}
