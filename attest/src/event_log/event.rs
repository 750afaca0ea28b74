//! An event of the log, and what it is called.

use std::fmt;

use super::record::Record;
use crate::HashAlg;

/// An event that extended a PCR. Only its digests are proven, and only by a replay.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its position, as TCG's tools count: the header of a crypto-agile log is 0.
    pub index: u32,
    /// The PCR that it extended, of 24.
    pub pcr: u8,
    /// What the log calls it. Not trusted (check 47).
    pub kind: EventKind,
    /// What the PCR was extended by, in each bank.
    pub digests: Digests<'a>,
    /// What the log tells about it. Not trusted but where it has the digest (check 48).
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Nothing if it is informative.
    pub(super) fn of(record: &Record<'a>) -> Option<Self> {
        Some(Self {
            index: record.index,
            pcr: record.extended()?,
            kind: record.kind,
            digests: record.digests,
            data: record.data,
        })
    }
}

/// The digests of an event, one a bank at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Digests<'a> {
    sha1: Option<&'a [u8]>,
    sha256: Option<&'a [u8]>,
    sha384: Option<&'a [u8]>,
    sha512: Option<&'a [u8]>,
}

impl<'a> Digests<'a> {
    /// The digest of a bank.
    #[must_use]
    pub const fn of(&self, alg: HashAlg) -> Option<&'a [u8]> {
        match alg {
            HashAlg::Sha1 => self.sha1,
            HashAlg::Sha256 => self.sha256,
            HashAlg::Sha384 => self.sha384,
            HashAlg::Sha512 => self.sha512,
        }
    }

    /// The banks with their digests.
    pub fn iter(&self) -> impl Iterator<Item = (HashAlg, &'a [u8])> {
        let digests = *self;
        [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
            .into_iter()
            .filter_map(move |alg| digests.of(alg).map(|digest| (alg, digest)))
    }

    /// Notes the digest of a bank. Gives the one that was noted before.
    pub(super) const fn note(&mut self, alg: HashAlg, digest: &'a [u8]) -> Option<&'a [u8]> {
        let slot = match alg {
            HashAlg::Sha1 => &mut self.sha1,
            HashAlg::Sha256 => &mut self.sha256,
            HashAlg::Sha384 => &mut self.sha384,
            HashAlg::Sha512 => &mut self.sha512,
        };
        slot.replace(digest)
    }
}

/// What the log calls an event (PFP, table of event types): for display, never for a decision (check 47).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EventKind(pub u32);

impl EventKind {
    /// Informative: extends nothing.
    pub const NO_ACTION: Self = Self(0x03);
    /// The end of what firmware measures into a PCR.
    pub const SEPARATOR: Self = Self(0x04);
    /// The root of trust of the firmware.
    pub const S_CRTM_CONTENTS: Self = Self(0x07);
    /// A variable that configures firmware: `SecureBoot`, `PK`, `KEK`, `db`, `dbx`.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// `BootOrder` and what it names.
    pub const EFI_VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// A sentence such as `Exit Boot Services Invocation`.
    pub const EFI_ACTION: Self = Self(0x8000_0007);
    /// `BootOrder` and what it names, in firmware of today.
    pub const EFI_VARIABLE_BOOT2: Self = Self(0x8000_000C);
    /// The root of trust outside of the firmware that was measured before the TPM was started.
    pub const EFI_HCRTM_EVENT: Self = Self(0x8000_0010);
    /// The entry of `db` by which an image was verified.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00E0);

    const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "EV_PREBOOT_CERT",
            0x01 => "EV_POST_CODE",
            0x03 => "EV_NO_ACTION",
            0x04 => "EV_SEPARATOR",
            0x05 => "EV_ACTION",
            0x06 => "EV_EVENT_TAG",
            0x07 => "EV_S_CRTM_CONTENTS",
            0x08 => "EV_S_CRTM_VERSION",
            0x09 => "EV_CPU_MICROCODE",
            0x0A => "EV_PLATFORM_CONFIG_FLAGS",
            0x0B => "EV_TABLE_OF_DEVICES",
            0x0C => "EV_COMPACT_HASH",
            0x0D => "EV_IPL",
            0x0E => "EV_IPL_PARTITION_DATA",
            0x0F => "EV_NONHOST_CODE",
            0x10 => "EV_NONHOST_CONFIG",
            0x11 => "EV_NONHOST_INFO",
            0x12 => "EV_OMIT_BOOT_DEVICE_EVENTS",
            0x13 => "EV_POST_CODE2",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000A => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000B => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000C => "EV_EFI_VARIABLE_BOOT2",
            0x8000_000D => "EV_EFI_GPT_EVENT2",
            0x8000_0010 => "EV_EFI_HCRTM_EVENT",
            0x8000_00E0 => "EV_EFI_VARIABLE_AUTHORITY",
            0x8000_00E1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
            0x8000_00E2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
            0x8000_00E3 => "EV_EFI_SPDM_DEVICE_POLICY",
            0x8000_00E4 => "EV_EFI_SPDM_DEVICE_AUTHORITY",
            _ => return None,
        })
    }
}

/// `EV_SEPARATOR`, or the number if there is no name.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}
