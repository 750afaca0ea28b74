//! Which beginning of a list the PCRs prove (checks 56 and 58).

use std::collections::BTreeSet;

use super::{Entry, MeasurementList, PCR};
use crate::{Digest, HashAlg, PcrSelection, PcrValues, Reject};

/// How far the list of a host was proven: its boot, how many entries, and what they left in the PCRs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    reset_count: u32,
    entries: u64,
    pcrs: PcrValues,
    /// As soon as an entry showed it.
    hashing: Option<Hashing>,
}

/// What the kernel extends PCRs by, in a bank of another hash than that of the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hashing {
    /// The SHA-1 digest of the entry, filled up with zeros (before Linux 5.8): the bank is worth no more than SHA-1.
    PaddedSha1,
    /// The digest of the entry by the bank's own hash.
    Whole,
}

/// What a quote proves of the PCRs.
#[derive(Clone, Copy, Debug)]
pub enum Quoted<'a> {
    /// The digest over all its PCRs, of which `others` are explained by the event log.
    Digest {
        /// Which PCRs.
        selection: &'a PcrSelection,
        /// The digest that the quote holds.
        pcr_digest: &'a [u8],
        /// The hash that it was made with.
        hash: HashAlg,
        /// Values of the PCRs that the list does not extend.
        others: &'a PcrValues,
    },
    /// Values that have the digest of the quote.
    Values(&'a PcrValues),
}

/// The part of a list that PCRs prove. Only [`explain`] makes one.
#[derive(Clone, Debug)]
pub struct ProvenList {
    pub(super) list: MeasurementList,
    proven: u32,
    begins_with_boot: bool,
    progress: Progress,
    hashing: Hashing,
}

/// How many entries of a list may be newer than the quote.
const MAX_TRAILING: u32 = 4096;

impl Progress {
    /// Nothing was proven since the boot that the TPM counts as `reset_count`.
    #[must_use]
    pub fn of_boot(reset_count: u32) -> Self {
        Self {
            reset_count,
            entries: 0,
            pcrs: PcrValues::default(),
            hashing: None,
        }
    }

    /// After `entries` entries of that boot, which left `pcrs`: as it was kept. Of those, it goes on from IMA's alone.
    #[must_use]
    pub fn resumed(reset_count: u32, entries: u64, pcrs: &PcrValues) -> Self {
        let mut own = PcrValues::default();
        for (alg, pcr, value) in pcrs.iter().filter(|(_, pcr, _)| *pcr == PCR) {
            own.set(alg, pcr, *value);
        }
        Self {
            reset_count,
            entries,
            pcrs: own,
            hashing: None,
        }
    }

    /// The TPM's count of resets, which says which boot it was.
    #[must_use]
    pub const fn reset_count(&self) -> u32 {
        self.reset_count
    }

    /// How many entries were proven since the boot.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// What they left in the PCRs.
    #[must_use]
    pub const fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }

    /// As it is after all of `part`, which goes on at `offset`: a list that comes in parts is explained by the last of
    /// them, and nothing proves the others before. Only of kernels that extend whole digests, into these `banks`.
    ///
    /// # Errors
    ///
    /// [`Reject::ImaContinuity`] if it goes on elsewhere, [`Reject::ImaPcr`] if an entry is of another PCR than IMA's.
    pub fn past(&self, part: &MeasurementList, offset: u64, banks: &PcrSelection) -> Result<Self, Reject> {
        if offset != self.entries {
            return Err(Reject::ImaContinuity);
        }
        part.check_pcr()?;
        let mut pcrs = self.pcrs.clone();
        for entry in part.entries() {
            for (alg, _) in banks.banks() {
                pcrs.extend(alg, entry.pcr, extension(&entry, alg, Hashing::Whole).as_bytes());
            }
        }
        Ok(Self {
            reset_count: self.reset_count,
            entries: self.entries + u64::from(part.len()),
            pcrs,
            hashing: Some(Hashing::Whole),
        })
    }
}

/// Finds the beginning of `list` that leads from `from` to what was `quoted` in the boot `reset_count`. `offset`
/// says how many entries of that boot came before the list; both are compared with `from`.
///
/// # Errors
///
/// [`Reject::ImaContinuity`] if the list goes on elsewhere than `from` ends, [`Reject::PcrBank`] if nothing stronger
/// than SHA-1 was quoted, [`Reject::ImaPcr`] if IMA's PCR was not quoted or an entry is of another, also one newer than
/// the quote, [`Reject::ImaUnexplained`] if no beginning leads there, [`Reject::ImaTrailing`] if too much follows it.
pub fn explain(
    list: MeasurementList,
    offset: u64,
    from: &Progress,
    reset_count: u32,
    quoted: &Quoted<'_>,
) -> Result<ProvenList, Reject> {
    if reset_count != from.reset_count || offset != from.entries {
        return Err(Reject::ImaContinuity);
    }
    list.check_pcr()?;
    let start = from.pcrs.select(&extended(quoted)?);
    let ways = [Hashing::Whole, Hashing::PaddedSha1];
    let (hashing, (proven, pcrs)) = ways
        .into_iter()
        .filter(|way| from.hashing.is_none_or(|known| known == *way))
        .find_map(|way| Some((way, prefix(&list, &start, way, quoted)?)))
        .ok_or(Reject::ImaUnexplained(from.entries))?;
    if list.len() - proven > MAX_TRAILING {
        return Err(Reject::ImaTrailing);
    }
    // Nothing and violations extend the same either way.
    let is_shown = list
        .entries()
        .take(proven as usize)
        .any(|entry| !entry.is_violation());
    Ok(ProvenList {
        proven,
        begins_with_boot: from.entries == 0,
        progress: Progress {
            reset_count,
            entries: from.entries + u64::from(proven),
            pcrs,
            hashing: if is_shown { Some(hashing) } else { from.hashing },
        },
        hashing,
        list,
    })
}

/// The PCR of IMA in each bank that was quoted; SHA-1 alone proves nothing (37).
fn extended(quoted: &Quoted<'_>) -> Result<PcrSelection, Reject> {
    let banks: BTreeSet<HashAlg> = match quoted {
        Quoted::Digest { selection, .. } => selection.banks().map(|(alg, _)| alg).collect(),
        Quoted::Values(values) => values.iter().map(|(alg, ..)| alg).collect(),
    };
    if banks.iter().all(|alg| *alg == HashAlg::Sha1) {
        return Err(Reject::PcrBank(HashAlg::Sha1));
    }
    if !banks.iter().all(|alg| quoted.covers(*alg, PCR)) {
        return Err(Reject::ImaPcr(PCR));
    }
    let of_ima = banks.into_iter().map(|alg| (alg, [PCR].into_iter().collect()));
    PcrSelection::new(of_ima.collect()).map_err(|_| Reject::PcrSelection)
}

/// How many entries lead from `start` to what was quoted, and the values then.
fn prefix(
    list: &MeasurementList,
    start: &PcrValues,
    way: Hashing,
    quoted: &Quoted<'_>,
) -> Option<(u32, PcrValues)> {
    let mut pcrs = start.clone();
    if quoted.is(&pcrs) {
        return Some((0, pcrs));
    }
    let banks: BTreeSet<HashAlg> = pcrs.iter().map(|(alg, ..)| alg).collect();
    for entry in list.entries() {
        for alg in &banks {
            pcrs.extend(*alg, entry.pcr, extension(&entry, *alg, way).as_bytes());
        }
        if quoted.is(&pcrs) {
            return Some((entry.index + 1, pcrs));
        }
    }
    None
}

impl MeasurementList {
    /// Checks that all entries are of IMA's PCR (56): what is in another one is for firmware's log to say, or for a policy.
    fn check_pcr(&self) -> Result<(), Reject> {
        let elsewhere = self.entries().find(|entry| entry.pcr != PCR);
        elsewhere.map_or(Ok(()), |entry| Err(Reject::ImaPcr(entry.pcr)))
    }

    /// What the list leaves in the PCRs of a bank, if nothing else extends them. Proves nothing.
    #[must_use]
    pub fn replay(&self, alg: HashAlg, hashing: Hashing) -> PcrValues {
        let mut pcrs = PcrValues::default();
        for entry in self.entries() {
            pcrs.extend(alg, entry.pcr, extension(&entry, alg, hashing).as_bytes());
        }
        pcrs
    }
}

/// What the kernel extended a bank by.
fn extension(entry: &Entry<'_>, alg: HashAlg, way: Hashing) -> Digest {
    if entry.is_violation() {
        return Digest::filled(0xff, alg);
    }
    match way {
        Hashing::Whole => entry.hash(alg),
        Hashing::PaddedSha1 => {
            let sha1 = entry.hash(HashAlg::Sha1);
            let padded = sha1.as_bytes().iter().copied().chain(std::iter::repeat(0));
            padded.take(alg.digest_len()).collect()
        }
    }
}

impl Quoted<'_> {
    fn covers(&self, alg: HashAlg, pcr: u8) -> bool {
        match self {
            Self::Digest { selection, .. } => selection.of(alg).contains(pcr),
            Self::Values(values) => values.get(alg, pcr).is_some(),
        }
    }

    /// Whether the PCRs of the list have these values.
    fn is(&self, pcrs: &PcrValues) -> bool {
        match self {
            Self::Digest {
                selection,
                pcr_digest,
                hash,
                others,
            } => {
                let mut all = (*others).clone();
                pcrs.iter()
                    .for_each(|(alg, pcr, value)| all.set(alg, pcr, *value));
                all.digest(selection, *hash).as_bytes() == *pcr_digest
            }
            Self::Values(values) => pcrs
                .iter()
                .all(|(alg, pcr, value)| values.get(alg, pcr) == Some(value)),
        }
    }
}

impl ProvenList {
    /// The entries that are proven, in their order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        self.list.entries().take(self.proven as usize)
    }

    /// How many entries of the list are newer than the quote, and so not proven. They come again with the next.
    #[must_use]
    pub const fn trailing(&self) -> u32 {
        self.list.len() - self.proven
    }

    /// How many entries of the boot came before its first.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.progress.entries.saturating_sub(u64::from(self.proven))
    }

    /// How many bytes the entries take that are proven, in the binary form.
    #[must_use]
    pub fn proven_len(&self) -> usize {
        self.list.len_of(self.proven)
    }

    /// How far the host's list is proven now.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the kernel extends the PCRs by.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        self.hashing
    }

    /// Whether it begins with the first entry of the boot.
    pub(super) const fn begins_with_boot(&self) -> bool {
        self.begins_with_boot
    }

    /// Checks that the kernel saw each file that it measured (57).
    ///
    /// # Errors
    ///
    /// [`Reject::ImaViolation`] with the first entry that it did not.
    pub fn without_violations(self) -> Result<Self, Reject> {
        let violation = self.entries().find(Entry::is_violation).map(|entry| entry.index);
        violation.map_or(Ok(self), |index| Err(Reject::ImaViolation(index)))
    }

    /// Checks that the banks are worth what they seem (37).
    ///
    /// # Errors
    ///
    /// [`Reject::ImaWeakHash`] if the kernel fills up SHA-1 digests.
    pub fn hashed_whole(self) -> Result<Self, Reject> {
        match self.hashing {
            Hashing::PaddedSha1 => Err(Reject::ImaWeakHash),
            Hashing::Whole => Ok(self),
        }
    }
}
