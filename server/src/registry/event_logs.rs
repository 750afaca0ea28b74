//! The event logs of hosts: those that explained what was accepted last, once each however many hosts have it. They are
//! in the store alone, which is read when one is wanted. A log has 4 MiB at most (`EventLog::MAX_LEN`), and most have 50 KB;
//! only that of an enrolled host is kept, one for each host.

use std::sync::Arc;

use attest::{Reject, event_log::EventLog};
use plugin_api::Host;

use super::{CodecError, hosts::kept_log, policy_codec};
use crate::store::{Store, StoreError};

/// Reads event logs of hosts. Clones read the same store.
#[derive(Clone, Debug)]
pub struct EventLogs(Arc<Store>);

/// An event log that should be on record is not.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// It is no record of one.
    #[error("event log on record can't be understood")]
    Codec(#[from] CodecError),
    /// The row says that it is there.
    #[error("event log on record is missing")]
    Missing,
    /// It is no event log, or does not explain what it did.
    #[error("event log on record is refused")]
    Refused(#[from] Reject),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EventLogs {
    /// Those in `store`.
    #[must_use]
    pub const fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// The log of `host`; `None` if none is on record. Blocks for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn of(&self, host: &Host) -> Result<Option<EventLog>, EventLogError> {
        let Some(sha256) = kept_log(host) else {
            return Ok(None);
        };
        let value = self.0.get(&policy_codec::event_log_key(&sha256))?;
        let content = policy_codec::decode_event_log(&value.ok_or(EventLogError::Missing)?)?;
        Ok(Some(EventLog::parse(&content)?))
    }
}
