//! The records of a log, one after the other: little-endian, bounded, nothing is copied.

use super::{
    EventLog, Format,
    event::{Digests, EventKind},
    layout::Layout,
};
use crate::{HashAlg, PcrSet, Reject, wire::Reader};

/// A record as it stands in the log, also one that is only informative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) index: u32,
    pub(super) pcr: u32,
    pub(super) kind: EventKind,
    pub(super) digests: Digests<'a>,
    pub(super) data: &'a [u8],
}

/// How Intel's TXT maps PCRs (MLE Developer's Guide, EVTYPE_PCRMAPPING): for a PCR that no TPM has.
const PCR_MAPPING: (u32, EventKind) = (0xff, EventKind(0x401));

impl<'a> Record<'a> {
    /// Reads a TCG_PCR_EVENT.
    pub(super) fn read_legacy(reader: &mut LeReader<'a>, index: u32) -> Result<Self, Reject> {
        let pcr = reader.u32()?;
        let kind = EventKind(reader.u32()?);
        let mut digests = Digests::default();
        digests.note(HashAlg::Sha1, reader.take(HashAlg::Sha1.digest_len())?);
        Ok(Self {
            index,
            pcr,
            kind,
            digests,
            data: read_data(reader)?,
        })
    }

    /// Reads a TCG_PCR_EVENT2.
    fn read_agile(reader: &mut LeReader<'a>, layout: &Layout, index: u32) -> Result<Self, Reject> {
        Ok(Self {
            index,
            pcr: reader.u32()?,
            kind: EventKind(reader.u32()?),
            digests: layout.read_digests(reader, index)?,
            data: read_data(reader)?,
        })
    }

    /// The PCR that it extended; nothing if it is only informative, as those are with which Windows ends a
    /// log, for a PCR that no TPM has, and that by which tboot says how it maps PCRs.
    pub(super) fn extended(&self) -> Option<u8> {
        u8::try_from(self.pcr).ok().filter(|_| !self.is_informative())
    }

    fn is_informative(&self) -> bool {
        self.kind == EventKind::NO_ACTION || (self.pcr, self.kind) == PCR_MAPPING
    }

    /// Extends a PCR that there is, or none.
    fn check(self) -> Result<Self, Reject> {
        if self.is_informative() || self.pcr < u32::from(PcrSet::COUNT) {
            Ok(self)
        } else {
            Err(Reject::LogMalformed)
        }
    }
}

fn read_data<'a>(reader: &mut LeReader<'a>) -> Result<&'a [u8], Reject> {
    let len = reader.u32()? as usize;
    // What is longer than the log itself is not long, but wrong.
    if len > EventLog::MAX_DATA && len <= reader.rest().len() {
        return Err(Reject::LogLimit);
    }
    reader.take(len)
}

/// Reads the records of a log, up to the first that is malformed.
#[derive(Clone, Debug)]
pub(super) struct Records<'a> {
    reader: LeReader<'a>,
    layout: &'a Layout,
    next: u32,
    padding: usize,
}

impl<'a> Records<'a> {
    /// Reads the log `bytes`, that `layout` is of.
    pub(super) fn new(bytes: &'a [u8], layout: &'a Layout) -> Self {
        Self {
            reader: LeReader::new(bytes.get(layout.start..).unwrap_or_default()),
            layout,
            // The header is event 0.
            next: u32::from(layout.format == Format::CryptoAgile),
            padding: 0,
        }
    }

    /// Reads a log that zeros or ones may follow.
    pub(super) fn padded(bytes: &'a [u8], layout: &'a Layout) -> Self {
        Self {
            padding: padding(bytes),
            ..Self::new(bytes, layout)
        }
    }

    /// What was not read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    fn read(&mut self) -> Result<Record<'a>, Reject> {
        let index = self.next;
        if index >= EventLog::MAX_EVENTS {
            return Err(Reject::LogLimit);
        }
        self.next += 1;
        match self.layout.format {
            Format::CryptoAgile => Record::read_agile(&mut self.reader, self.layout, index)?.check(),
            Format::Legacy => Record::read_legacy(&mut self.reader, index)?.check(),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest().len() <= self.padding {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.reader = LeReader::new(&[]);
        }
        Some(record)
    }
}

/// How many bytes at the end may be padding: those that are all zeros, or all ones. Counted once, so that a
/// log full of zeros is not searched again at each event.
fn padding(bytes: &[u8]) -> usize {
    match bytes.last() {
        Some(fill @ (0x00 | 0xff)) => bytes.iter().rev().take_while(|byte| *byte == fill).count(),
        _ => 0,
    }
}

/// Reads little-endian fields; what is cut short is no log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeReader<'a>(Reader<'a>);

impl<'a> LeReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Reject> {
        self.0.take(len).map_err(|_| Reject::LogMalformed)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        self.take(N)?.try_into().map_err(|_| Reject::LogMalformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Reject> {
        self.0.u8().map_err(|_| Reject::LogMalformed)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Reject> {
        self.0
            .u16()
            .map(u16::swap_bytes)
            .map_err(|_| Reject::LogMalformed)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reject> {
        self.0
            .u32()
            .map(u32::swap_bytes)
            .map_err(|_| Reject::LogMalformed)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Reject> {
        self.0
            .u64()
            .map(u64::swap_bytes)
            .map_err(|_| Reject::LogMalformed)
    }
}
