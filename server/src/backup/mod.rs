//! Backups: everything that a server keeps, in one file, taken while it runs; and data directories made of one.
//!
//! The file is the same whatever engine the store has, so a restore also moves a server from one engine to another.
//! What a backup can't know is what happened after it. So what is restored gives nothing for granted:
//!
//! - Hosts that attest by TPM attest anew before anything is signed for them, and join tokens are void.
//! - No number is given twice: the sequences of the audit trail and of the bundle, and the revisions of the store and
//!   of entries, go on far beyond those of the backup. Serial numbers of SVIDs are drawn at random.

mod file;
mod renew;
mod restore;
mod take;

pub use file::{FileError, Part, Reader, Writer};
pub use renew::{Renewal, Renewed};
pub use restore::{RestoreError, Restored, Target, check_unfinished, restore};
pub use take::{Source, Spool, TakeError};

/// What both commands say.
pub const NOTES: [&str; 3] = [
    "After a restore, hosts that attest by TPM attest anew before anything is signed for them; they do so by themselves.",
    "After a restore, join tokens are void. An agent that attested by join token goes on with the SVID that it had when \
     the backup was made; one that renewed it since needs a new token.",
    "A restore takes back what happened since the backup: look at entries, bans and hosts that were changed since.",
];

#[cfg(test)]
mod tests;
