//! The store's format: an older one is migrated, a newer one refused.

use super::{Batch, Store, StoreError};

const KEY: &[u8] = b"meta/format";
/// The format that this build writes.
const CURRENT: u32 = 1;

/// Checks the format, and notes it in a new store.
pub(super) fn check(store: &Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(KEY)? else {
        let mut batch = Batch::default();
        batch.put(KEY.to_vec(), CURRENT.to_be_bytes().to_vec());
        return store.commit(batch).map(drop);
    };
    let found = bytes
        .first_chunk()
        .map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
    if found > CURRENT {
        return Err(StoreError::TooNew {
            found,
            known: CURRENT,
        });
    }
    Ok(())
}
