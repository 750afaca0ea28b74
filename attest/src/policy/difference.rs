//! What differs from a policy, in an operator's words.

use std::fmt;

use crate::event_log::EventKind;

/// One thing that is not as the policy wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Which rule says so.
    pub kind: DifferenceKind,
    /// What it is about: `PCR 4`, `dbx`, `kernel image`.
    pub subject: String,
    /// What the policy wants.
    pub expected: String,
    /// What there is, as far as it is proven.
    pub found: String,
    /// The event that measured it.
    pub event: Option<EventPlace>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventPlace {
    /// Its position in the log, as TCG's tools count; of a measurement list, that of the entry.
    pub index: u32,
    /// The PCR that it extended.
    pub pcr: u8,
    /// What the log calls it, for display; nothing of an entry of a measurement list.
    pub claimed: Option<EventKind>,
}

/// Kinds of differences. Each has a stable code.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DifferenceKind {
    /// An image was started that the policy does not know.
    BootImage,
    /// The kernel has another command line, or none that is proven.
    CommandLine,
    /// Keys of Secure Boot are missing, or there are too many.
    Db,
    /// `dbx` lacks what it has to hold.
    Dbx,
    /// Firmware is of a release that the policy does not know.
    Firmware,
    /// Firmware does not show what it started.
    Handover,
    /// A file is denied.
    ImaDenied,
    /// The kernel did not measure, or its list was not proven.
    ImaMissing,
    /// A file is neither known nor signed by a known key.
    ImaUnknown,
    /// A file changed while it was measured.
    ImaViolation,
    /// Another initial file system.
    Initrd,
    /// Other keys that may change `db` and `dbx`.
    Kek,
    /// The quote or the log lacks a PCR that the rule needs.
    NotProven,
    /// A PCR has another value.
    Pcr,
    /// Another platform key.
    Pk,
    /// shim goes by fewer revocations, or by none that is proven.
    Sbat,
    /// An image was verified by something that the policy does not know.
    SecureBootAuthority,
    /// Secure Boot is off, or can be got round.
    SecureBootState,
    /// The TPM has firmware out of range, or does not say.
    TpmFirmware,
    /// A section of a kernel image has other content.
    UkiSection,
}

impl DifferenceKind {
    /// The stable code: for the audit trail, and scripts.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BootImage => "policy_boot_image",
            Self::CommandLine => "policy_command_line",
            Self::Db => "policy_db",
            Self::Dbx => "policy_dbx",
            Self::Firmware => "policy_firmware",
            Self::Handover => "policy_handover",
            Self::ImaDenied => "policy_ima_denied",
            Self::ImaMissing => "policy_ima_missing",
            Self::ImaUnknown => "policy_ima_unknown",
            Self::ImaViolation => "policy_ima_violation",
            Self::Initrd => "policy_initrd",
            Self::Kek => "policy_kek",
            Self::NotProven => "policy_not_proven",
            Self::Pcr => "policy_pcr",
            Self::Pk => "policy_pk",
            Self::Sbat => "policy_sbat",
            Self::SecureBootAuthority => "policy_secure_boot_authority",
            Self::SecureBootState => "policy_secure_boot_state",
            Self::TpmFirmware => "policy_tpm_firmware",
            Self::UkiSection => "policy_uki_section",
        }
    }
}

/// `command line: expected …, found … (event 30, EV_IPL in PCR 11)`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.subject, self.expected, self.found
        )?;
        match &self.event {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

/// `event 30, EV_IPL in PCR 11`; `entry 7 of the measurement list in PCR 10`.
impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.claimed {
            Some(kind) => write!(f, "event {}, {kind} in PCR {}", self.index, self.pcr),
            None => write!(
                f,
                "entry {} of the measurement list in PCR {}",
                self.index, self.pcr
            ),
        }
    }
}

/// All that differs, so far as it fits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Differences {
    named: Vec<Difference>,
    /// How many more there are.
    more: u32,
}

impl Differences {
    /// Most that are named; the rest are counted.
    pub const MAX: usize = 32;

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// How many there are, named or not.
    pub(super) fn len(&self) -> u64 {
        self.named.len() as u64 + u64::from(self.more)
    }

    /// Those that are named, in the order of the rules.
    pub fn iter(&self) -> impl Iterator<Item = &Difference> {
        self.named.iter()
    }

    /// How many there are beyond those.
    #[must_use]
    pub const fn more(&self) -> u32 {
        self.more
    }

    pub(super) fn push(&mut self, difference: Difference) {
        if self.named.len() < Self::MAX {
            self.named.push(difference);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A rule needs a PCR that is not proven.
    pub(super) fn not_proven(&mut self, pcr: u8) {
        let subject = format!("PCR {pcr}");
        // Several rules may need it.
        if self
            .iter()
            .any(|known| known.kind == DifferenceKind::NotProven && known.subject == subject)
        {
            return;
        }
        self.push(Difference {
            kind: DifferenceKind::NotProven,
            subject,
            expected: "a quote over it, and a log that explains it".into(),
            found: "none".into(),
            event: None,
        });
    }
}

/// One line for each.
impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, difference) in self.named.iter().enumerate() {
            write!(f, "{}{difference}", if position == 0 { "" } else { "\n" })?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// Longest text of a host that is shown, in characters.
const MAX_TEXT: usize = 512;

/// A text of the host between backticks, without what a terminal would take for commands.
pub(super) fn quoted(text: &str) -> String {
    let escape = |char: char| {
        let plain = char.is_ascii_graphic() || char == ' ';
        if plain {
            char.to_string()
        } else {
            char.escape_unicode().to_string()
        }
    };
    let shown: String = text.chars().take(MAX_TEXT).map(escape).collect();
    let rest = if text.chars().nth(MAX_TEXT).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{rest}`")
}

/// Alternatives, the first ones only.
pub(super) fn one_of<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    listed(values, "or")
}

/// All of them, the first ones by name.
pub(super) fn all_of<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    listed(values, "and")
}

fn listed<T: fmt::Display>(values: impl IntoIterator<Item = T>, word: &str) -> String {
    let mut values = values.into_iter();
    let shown: Vec<_> = values.by_ref().take(3).map(|value| value.to_string()).collect();
    match (shown.is_empty(), values.count()) {
        (true, _) => "nothing".into(),
        (false, 0) => shown.join(&format!(" {word} ")),
        (false, more) => format!("{} {word} {more} others", shown.join(", ")),
    }
}
