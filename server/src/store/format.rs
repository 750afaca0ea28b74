//! The store's format: an older one is migrated, a newer one refused. The record says the format in four bytes,
//! and after them the version of the server that first wrote it.

use super::{Batch, Store, StoreError};

const KEY: &[u8] = b"meta/format";
/// The format that this build writes. There was none before.
pub const CURRENT: u32 = 1;

/// Checks the format, and notes it in a new store.
pub(super) fn check(store: &Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(KEY)? else {
        let mut batch = Batch::default();
        batch.put(KEY.to_vec(), describe());
        return store.commit(batch).map(drop);
    };
    let Some((found, version)) = bytes.split_first_chunk() else {
        return Err(StoreError::Corrupt {
            key: KEY.into(),
            source: super::FrameError::Truncated,
        });
    };
    let found = u32::from_be_bytes(*found);
    if found > CURRENT {
        return Err(StoreError::TooNew {
            found,
            known: CURRENT,
            needed: needed(version),
        });
    }
    Ok(())
}

fn describe() -> Vec<u8> {
    [&CURRENT.to_be_bytes(), env!("CARGO_PKG_VERSION").as_bytes()].concat()
}

/// Which server reads it, as far as the record says.
fn needed(version: &[u8]) -> String {
    match std::str::from_utf8(version) {
        Ok(version) if !version.is_empty() => format!("plastron-server {} or newer", version.escape_debug()),
        _ => "the server that wrote it".into(),
    }
}
