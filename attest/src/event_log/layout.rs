//! How the events of a log are laid out: what its header, the Spec ID event, says (PFP 1.04 §9.4.5.1).

use super::{
    EventLog,
    event::{Digests, EventKind},
    record::{LeReader, Record},
};
use crate::{HashAlg, Reject};

/// The two forms that logs have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// TCG_PCR_EVENT2: a digest for each bank.
    CryptoAgile,
    /// TCG_PCR_EVENT, from the days of TPM 1.2: SHA-1 alone, so nothing that may be decided on (check 54).
    Legacy,
}

/// Format and banks, as the header declares them.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) format: Format,
    banks: Box<[Bank]>,
    /// Where the events begin.
    pub(super) start: usize,
}

/// A bank of which the log has digests.
#[derive(Clone, Copy, Debug)]
struct Bank {
    id: u16,
    /// Nothing if we do not know it: its digests are skipped.
    alg: Option<HashAlg>,
    digest_len: usize,
}

/// What the data of the header of a crypto-agile log begins with.
const SPEC_ID: &[u8] = b"Spec ID Event03\0";

impl Layout {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = LeReader::new(bytes);
        // Both formats begin with an event of the legacy one.
        let first = Record::read_legacy(&mut reader, 0)?;
        let spec_id = first
            .data
            .strip_prefix(SPEC_ID)
            .filter(|_| first.kind == EventKind::NO_ACTION);
        Ok(match spec_id {
            Some(spec_id) => {
                let (banks, vendor) = read_banks(spec_id)?;
                // Some firmware leaves the vendor's part out of the length of the event.
                let _vendor = reader.take(vendor)?;
                Self {
                    format: Format::CryptoAgile,
                    banks,
                    start: bytes.len() - reader.rest().len(),
                }
            }
            None => Self {
                format: Format::Legacy,
                banks: [Bank::new(HashAlg::Sha1.to_tpm(), HashAlg::Sha1.digest_len())?].into(),
                start: 0,
            },
        })
    }

    pub(super) fn banks(&self) -> impl Iterator<Item = HashAlg> {
        self.banks.iter().filter_map(|bank| bank.alg)
    }

    /// Reads a TPML_DIGEST_VALUES, in little-endian as the PFP wants it.
    pub(super) fn read_digests<'a>(
        &self,
        reader: &mut LeReader<'a>,
        index: u32,
    ) -> Result<Digests<'a>, Reject> {
        let mut digests = Digests::default();
        let count = reader.u32()?;
        if count as usize > self.banks.len() {
            return Err(Reject::LogMalformed);
        }
        for _ in 0..count {
            let id = reader.u16()?;
            let bank = self.bank(id).ok_or(Reject::LogMalformed)?;
            let digest = reader.take(bank.digest_len)?;
            let earlier = bank.alg.and_then(|alg| digests.note(alg, digest));
            if earlier.is_some() {
                return Err(Reject::LogBanks(index));
            }
        }
        Ok(digests)
    }

    fn bank(&self, id: u16) -> Option<&Bank> {
        self.banks.iter().find(|bank| bank.id == id)
    }
}

/// Reads what follows the signature of a TCG_EfiSpecIDEvent. Gives the banks, and how long the vendor's part is that
/// follows the event.
fn read_banks(spec_id: &[u8]) -> Result<(Box<[Bank]>, usize), Reject> {
    let mut reader = LeReader::new(spec_id);
    let _class_version_and_uintn_size = reader.take(8)?;
    let count = reader.u32()? as usize;
    if count > EventLog::MAX_BANKS {
        return Err(Reject::LogLimit);
    }
    let mut banks: Vec<Bank> = Vec::with_capacity(count);
    for _ in 0..count {
        let bank = Bank::new(reader.u16()?, usize::from(reader.u16()?))?;
        if banks.iter().any(|earlier| earlier.id == bank.id) {
            return Err(Reject::LogMalformed);
        }
        banks.push(bank);
    }
    let vendor_len = usize::from(reader.u8()?);
    let vendor = reader.rest().len();
    if banks.is_empty() || (vendor != vendor_len && vendor != 0) {
        return Err(Reject::LogMalformed);
    }
    Ok((banks.into(), vendor_len - vendor))
}

impl Bank {
    fn new(id: u16, digest_len: usize) -> Result<Self, Reject> {
        let alg = HashAlg::from_tpm(id);
        let fits = match alg {
            Some(alg) => digest_len == alg.digest_len(),
            None => (1..=HashAlg::MAX_LEN).contains(&digest_len),
        };
        if fits {
            Ok(Self { id, alg, digest_len })
        } else {
            Err(Reject::LogMalformed)
        }
    }
}
