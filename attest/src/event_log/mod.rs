//! The firmware's event log: what was measured into the PCRs on the way to the operating system (TCG PC
//! Client Platform Firmware Profile, PFP; checks 45–54 of the list in `SECURITY.md`).
//!
//! The host sends the log, and whoever owns the host can write what he likes into it. The TPM signed the
//! PCRs. So nothing in a log is true but what the PCRs prove:
//!
//! ```text
//!   bytes ──▶ EventLog::parse ─────▶ EventLog      refuses: no log, one larger than any real one,
//!                                       │                   an event with two digests of a bank (45, 54)
//!                                       ▼
//!   quote ──▶ explain ─────────────▶ PcrValues     refuses: PCRs that the events do not add up to,
//!                                       │                   an event without a digest of the bank (46, 54)
//!                                       ▼
//!   PCRs ───▶ Measurements::verify ▶ Measurements  refuses: no, several or failed separators,
//!                                       │                   a variable whose data was swapped (48, 49)
//!                                       ▼
//!   PCR ────▶ Measurements::of ────▶ Measurement   gives: digest, phase, and the bytes that have the digest
//!                                       │
//!                                       ▼
//!   SecureBoot::of, SbatLevel::all, Handover::of,  refuses: what a policy can't rest on (50–53)
//!   uki_sections, boot_texts
//! ```
//!
//! # What a log can't be trusted for
//!
//! PCRs are extended by digests alone. They prove, for each PCR by itself, which digests came in which order.
//! They do not prove (check 47):
//!
//! - **Types.** Whoever writes the log can relabel a separator as something else, and his own event as a
//!   separator. [`EventKind`] is for display. Decide by the PCR, by the [`Phase`], and by the digest or the
//!   [`Content`]; and take every event of a PCR into account, also those that you don't know.
//! - **Data**, unless it has the digest. [`Content`] gives the bytes for which this was checked: those
//!   *are* what was measured, whatever the event is called. Of code and files the log has no more than a
//!   remark — a path, an address —, of GRUB's commands not the word before the colon.
//! - **Order between PCRs.** Only the order within one PCR is proven.
//! - **PCRs that were not quoted**, and events that are never extended (EV_NO_ACTION). Neither is shown.
//!   Of the latter one is read, the locality from which the TPM was started: a lie there explains no PCR 0.
//!
//! # Deciding
//!
//! All events of a PCR count, those of firmware apart; what is not understood is refused:
//!
//! ```
//! use attest::{Reject, event_log::{Measurements, SecureBoot}};
//!
//! /// Whether nothing started but what `db` lets pass, and nothing older than a certain `dbx`.
//! fn check(measurements: &Measurements, floor: &[u8]) -> Result<(), Reject> {
//!     let secure_boot = SecureBoot::of(measurements)?.enforced()?;
//!     let is_forbidden = secure_boot.dbx.iter().any(|entry| entry.data == floor);
//!     is_forbidden.then_some(()).ok_or(Reject::SecureBootOff)
//! }
//! ```
//!
//! Anybody can extend a PCR once the operating system runs, and nobody can undo an event. So what comes
//! before the separator of a PCR was measured by firmware; what comes after it, perhaps by an attacker.

mod boot_loader;
mod content;
mod event;
mod handover;
mod layout;
mod measurements;
mod record;
mod remark;
mod replay;
mod sbat;
mod secure_boot;
mod separator;
mod signatures;
mod uki;
mod variable;
mod windows;
mod words;

#[cfg(test)]
mod tests;

use crate::{HashAlg, Reject};

pub use boot_loader::{BootBytes, BootText, boot_texts};
pub use content::Content;
pub use event::{Digests, Event, EventKind};
pub use handover::Handover;
pub use layout::Format;
pub use measurements::{Measurement, Measurements, Phase};
pub use replay::{explain, explain_beside, replays};
pub use sbat::SbatLevel;
pub use secure_boot::{Authority, SecureBoot, SecureBootMode};
pub use signatures::{Signature, SignatureKind, signatures};
pub use uki::{PHASES, UKI_PCR, UkiSection, boot_phases, uki_sections};
pub use variable::EfiVariable;
pub use words::{Words, before_words, unlogged_words};

use layout::Layout;
use record::Records;

/// A log that parsed: as long as its bytes, and not yet believed.
#[derive(Clone, Debug)]
pub struct EventLog {
    bytes: Box<[u8]>,
    layout: Layout,
    startup_locality: u8,
}

impl EventLog {
    /// Longest log in bytes: real ones reach 1 MB.
    pub const MAX_LEN: usize = 4 << 20;
    /// Most events in a log: real ones reach some hundreds, with GRUB's commands.
    pub const MAX_EVENTS: u32 = 16_384;
    /// Most data of an event in bytes: real ones, with dbx or a policy of Windows, reach 25 KB.
    pub const MAX_DATA: usize = 1 << 20;
    /// Most banks of a log: TPMs have four at most.
    pub const MAX_BANKS: usize = 8;

    /// Parses a log, crypto-agile or legacy, as the firmware left it; Windows calls it WBCL. Zeros or ones
    /// may follow the last event, as they do where a log is read from its buffer.
    ///
    /// # Errors
    ///
    /// [`Reject::LogLimit`], [`Reject::LogMalformed`], or [`Reject::LogBanks`] if an event has two digests of
    /// a bank.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > Self::MAX_LEN {
            return Err(Reject::LogLimit);
        }
        let layout = Layout::parse(bytes)?;
        let mut records = Records::padded(bytes, &layout);
        let startup_locality = replay::startup_locality(&mut records)?;
        let end = bytes.len() - records.rest().len();
        Ok(Self {
            bytes: bytes.get(..end).unwrap_or(bytes).into(),
            layout,
            startup_locality,
        })
    }

    /// Whether its events have digests of several banks.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.layout.format
    }

    /// The banks of which it has digests; a legacy log has SHA-1 only. Unknown ones are left out.
    pub fn banks(&self) -> impl Iterator<Item = HashAlg> {
        self.layout.banks()
    }

    /// The locality from which the TPM was started: 0, 3, or 4 after an H-CRTM. PCR 0 begins with it.
    #[must_use]
    pub const fn startup_locality(&self) -> u8 {
        self.startup_locality
    }

    /// The events that extended a PCR, in the order of the log.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> + Clone {
        // All of them were read before, by `parse`: none fails.
        Records::new(&self.bytes, &self.layout)
            .filter_map(Result::ok)
            .filter_map(|record| Event::of(&record))
    }
}
