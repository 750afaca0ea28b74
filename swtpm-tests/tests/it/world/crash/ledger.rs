//! The audit ledger, as it is on disk.

use std::{collections::HashSet, fs, path::Path};

use prost::Message;
use proto::plastron::store::v1::AuditRecord;

/// Magic, sequence number, hash of the record before.
const HEADER: usize = 8 + 8 + 32;
/// Length and checksum before a record, and the hash behind it.
const BEFORE: usize = 4 + 4;
const BEHIND: usize = 32;

/// The serial numbers of every SVID that the ledger has.
pub(super) fn serials(data_dir: &Path) -> HashSet<String> {
    let files = fs::read_dir(data_dir.join("audit")).unwrap();
    let journals = files.map(|file| fs::read(file.unwrap().path()).unwrap());
    journals
        .flat_map(|journal| records(&journal))
        .filter_map(serial)
        .collect()
}

fn records(journal: &[u8]) -> Vec<AuditRecord> {
    let mut records = Vec::new();
    let mut rest = &journal[HEADER..];
    while let Some((length, _)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let end = BEFORE + length;
        records.push(AuditRecord::decode(&rest[BEFORE..end]).unwrap());
        rest = &rest[end + BEHIND..];
    }
    records
}

fn serial(record: AuditRecord) -> Option<String> {
    let mut fields = record.fields.into_iter();
    let is_svid = ["svid_issued", "svid_minted"].contains(&record.event.as_str());
    let serial = fields
        .find(|field| field.name == "serial_num")
        .filter(|_| is_svid)?;
    Some(serial.value)
}
