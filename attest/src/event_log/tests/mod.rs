//! Each rule by itself, with logs that are built for it.

mod boot_loading;
mod booting;
mod content;
mod explaining;
mod handing_over;
mod measuring;
mod parsing;
mod replaying;

use super::*;
use crate::{PcrSelection, PcrSet, PcrValues};

const ALL: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// Builds a log as firmware writes it.
struct Builder {
    bytes: Vec<u8>,
    banks: Vec<HashAlg>,
}

impl Builder {
    fn agile(banks: &[HashAlg]) -> Self {
        let sizes: Vec<_> = banks
            .iter()
            .map(|alg| (alg.to_tpm(), u16::try_from(alg.digest_len()).unwrap()))
            .collect();
        Self {
            bytes: header(&spec_id(&sizes, &[])),
            banks: banks.into(),
        }
    }

    fn legacy() -> Self {
        Self {
            bytes: Vec::new(),
            banks: Vec::new(),
        }
    }

    /// An event whose digests are of `measured`.
    fn event(self, pcr: u32, kind: EventKind, measured: &[u8], data: &[u8]) -> Self {
        let digests: Vec<_> = self
            .banks
            .iter()
            .map(|alg| (alg.to_tpm(), digest(*alg, measured)))
            .collect();
        self.raw(pcr, kind, &digests, data)
    }

    /// An event whose digests are of its data.
    fn honest(self, pcr: u32, kind: EventKind, data: &[u8]) -> Self {
        self.event(pcr, kind, data, data)
    }

    /// An event of other banks than it should have. Legacy if the log is.
    fn raw(mut self, pcr: u32, kind: EventKind, digests: &[(u16, Vec<u8>)], data: &[u8]) -> Self {
        self.bytes.extend(pcr.to_le_bytes());
        self.bytes.extend(kind.0.to_le_bytes());
        if self.banks.is_empty() {
            self.bytes.extend(digest(HashAlg::Sha1, data));
        } else {
            self.bytes.extend(count(digests.len()));
        }
        for (id, digest) in digests {
            self.bytes.extend(id.to_le_bytes());
            self.bytes.extend(digest);
        }
        self.bytes.extend(count(data.len()));
        self.bytes.extend(data);
        self
    }

    fn separators(self) -> Self {
        (0..8).fold(self, |log, pcr| log.honest(pcr, EventKind::SEPARATOR, &[0; 4]))
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn parse(&self) -> Result<EventLog, Reject> {
        EventLog::parse(&self.bytes)
    }
}

fn header(spec_id: &[u8]) -> Vec<u8> {
    let fields: [&[u8]; 5] = [
        &0_u32.to_le_bytes(),
        &EventKind::NO_ACTION.0.to_le_bytes(),
        &[0; 20],
        &count(spec_id.len()),
        spec_id,
    ];
    fields.concat()
}

fn spec_id(sizes: &[(u16, u16)], vendor: &[u8]) -> Vec<u8> {
    let mut bytes = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    bytes.extend(count(sizes.len()));
    for (id, size) in sizes {
        bytes.extend(id.to_le_bytes());
        bytes.extend(size.to_le_bytes());
    }
    bytes.push(u8::try_from(vendor.len()).unwrap());
    bytes.extend(vendor);
    bytes
}

fn count(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}

fn digest(alg: HashAlg, bytes: &[u8]) -> Vec<u8> {
    alg.digest(&[bytes]).as_bytes().into()
}

fn variable(name: &str, data: &[u8]) -> Vec<u8> {
    let name: Vec<_> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let name_len = name.len() as u64 / 2;
    let data_len = data.len() as u64;
    let fields: [&[u8]; 5] = [
        &[7; 16],
        &name_len.to_le_bytes(),
        &data_len.to_le_bytes(),
        &name,
        data,
    ];
    fields.concat()
}

const IPL: EventKind = EventKind(0x0d);
const SHA256: &[HashAlg] = &[HashAlg::Sha256];
