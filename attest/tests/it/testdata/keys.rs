//! Keys of Secure Boot: how many a file holds, and in the databases of how many logs they all are.

use std::sync::LazyLock;

use attest::event_log::{EventLog, Measurements, SecureBoot, Signature, signatures};

use super::{Row, all_pcrs};
use crate::fixtures::{self, event_log, secure_boot_file};

/// Of each log that says so: what `PK`, `KEK`, `db` and `dbx` held.
static HELD: LazyLock<Vec<[Vec<Vec<u8>>; 4]>> = LazyLock::new(|| {
    fixtures::event_logs()
        .iter()
        .filter_map(|log| held(log))
        .collect()
});

fn held(log: &str) -> Option<[Vec<Vec<u8>>; 4]> {
    let log = EventLog::parse(&event_log(log)).ok()?;
    let alg = log.banks().max()?;
    let measurements = Measurements::verify(log, alg, all_pcrs()).ok()?;
    let state = SecureBoot::of(&measurements).ok()?;
    let data = |keys: &[Signature<'_>]| keys.iter().map(|key| key.data.to_vec()).collect();
    Some([&state.pk, &state.kek, &state.db, &state.dbx].map(|keys| data(keys)))
}

pub(super) fn row(name: &str) -> Row {
    let bytes = secure_boot_file(name);
    let wanted: Vec<Vec<u8>> = if name.starts_with("dbxupdate") {
        let entries = signatures(authenticated(&bytes)).unwrap();
        entries.iter().map(|entry| entry.data.to_vec()).collect()
    } else {
        vec![bytes]
    };
    let count = |database: usize| {
        let is_in = |held: &&[Vec<Vec<u8>>; 4]| wanted.iter().all(|key| held[database].contains(key));
        HELD.iter().filter(is_in).count()
    };
    let places: Vec<_> = ["PK", "KEK", "db", "dbx"]
        .into_iter()
        .enumerate()
        .map(|(index, database)| (count(index), database))
        .filter(|(count, _)| *count > 0)
        .map(|(count, database)| format!("{database} of {count}"))
        .collect();
    let places = if places.is_empty() {
        "no log".into()
    } else {
        format!("{} logs", places.join(", "))
    };
    Row::accepted(format!("{} in {places}", wanted.len()), "")
}

/// What follows an EFI_VARIABLE_AUTHENTICATION_2: a time, and a certificate with its length.
fn authenticated(bytes: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
    &bytes[16 + len as usize..]
}
