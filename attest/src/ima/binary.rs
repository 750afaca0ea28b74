//! The binary form of a list, as `binary_runtime_measurements` has it: bounded, nothing is copied.

use super::{
    Entry, MeasurementList,
    entry::{Fields, LEGACY},
};
use crate::{HashAlg, PcrSet, Reject};

/// What differs between lists, and is the same for all entries of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    pub(super) order: Order,
    /// The hash of the digest in front of each entry.
    pub(super) digest: HashAlg,
}

/// Lengths are in the order of the kernel's machine, unless it was started with `ima_canonical_fmt`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Big,
    Little,
}

/// Longest name of a template in bytes (`MAX_TEMPLATE_NAME_LEN` of the kernel).
const MAX_TEMPLATE: usize = 255;
const ALGS: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

impl Layout {
    /// By the first entry: its PCR tells the order, and the name of its template where the digest ends.
    pub(super) fn detect(bytes: &[u8]) -> Self {
        let order = match bytes.first_chunk() {
            Some(pcr) if u32::from_le_bytes(*pcr) >= u32::from(PcrSet::COUNT) => Order::Big,
            _ => Order::Little,
        };
        let fits = |digest: &HashAlg| {
            let layout = Self {
                order,
                digest: *digest,
            };
            Entries::new(bytes, layout).read_front().is_ok()
        };
        Self {
            order,
            digest: ALGS.into_iter().find(fits).unwrap_or(HashAlg::Sha1),
        }
    }
}

/// Reads the entries of a list, up to the first that is malformed.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    layout: Layout,
    next: u32,
}

/// What stands in front of the fields of an entry.
struct Front<'a> {
    pcr: u8,
    digest: &'a [u8],
    template: &'a str,
}

impl<'a> Entries<'a> {
    pub(super) const fn new(bytes: &'a [u8], layout: Layout) -> Self {
        Self {
            rest: bytes,
            layout,
            next: 0,
        }
    }

    /// How many bytes are not read yet; none after what is malformed.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Result<Entry<'a>, Reject> {
        let index = self.next;
        if index >= MeasurementList::MAX_ENTRIES {
            return Err(Reject::ImaLimit);
        }
        self.next += 1;
        let front = self.read_front()?;
        let fields = if front.template == LEGACY {
            Fields::Legacy {
                digest: self.take(HashAlg::Sha1.digest_len())?,
                name: self.sized(MeasurementList::MAX_DATA)?,
            }
        } else {
            Fields::Sized {
                order: self.layout.order,
                data: self.sized(MeasurementList::MAX_DATA)?,
            }
        };
        Ok(Entry::new(index, front.pcr, front.template, front.digest, fields))
    }

    fn read_front(&mut self) -> Result<Front<'a>, Reject> {
        let pcr = self.u32()?;
        let digest = self.take(self.layout.digest.digest_len())?;
        let template = str::from_utf8(self.sized(MAX_TEMPLATE)?).map_err(|_| Reject::ImaMalformed)?;
        let is_name = !template.is_empty() && template.bytes().all(|byte| byte.is_ascii_graphic());
        match u8::try_from(pcr) {
            Ok(pcr) if pcr < PcrSet::COUNT && is_name => Ok(Front {
                pcr,
                digest,
                template,
            }),
            _ => Err(Reject::ImaMalformed),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Reject> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Reject::ImaMalformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Reject> {
        read_u32(&mut self.rest, self.layout.order).ok_or(Reject::ImaMalformed)
    }

    fn sized(&mut self, max: usize) -> Result<&'a [u8], Reject> {
        let len = self.u32()? as usize;
        // What is longer than the list itself is not long, but wrong.
        if len > max && len <= self.rest.len() {
            return Err(Reject::ImaLimit);
        }
        self.take(len)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

/// Takes a length off the front of `rest`.
pub(super) fn read_u32(rest: &mut &[u8], order: Order) -> Option<u32> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(match order {
        Order::Big => u32::from_be_bytes(*taken),
        Order::Little => u32::from_le_bytes(*taken),
    })
}
