//! Unified kernel images: systemd's stub measures each section of its image into PCR 11, first the name, then what is
//! in it; and systemd extends PCR 11 at each phase of the boot, without writing that into this log (check 53).

use super::{EventLog, Measurements};
use crate::{Digest, HashAlg, PcrValues, Reject};

/// The PCR that belongs to unified kernel images.
pub const UKI_PCR: u8 = 11;

/// A section of a unified kernel image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UkiSection<'a> {
    /// Its name: `.linux`, `.initrd`, `.cmdline`.
    pub name: &'static str,
    /// Position of the event with its digest.
    pub index: u32,
    /// The digest of what is in it.
    pub digest: &'a [u8],
}

/// The sections that the stub measures (systemd-stub(7)).
const SECTIONS: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto", ".hwids", ".uname",
    ".sbat", ".pcrpkey", ".profile", ".efifw",
];

/// The phases of a boot (systemd-pcrphase.service(8)), in their order.
pub const PHASES: [&str; 6] = [
    "enter-initrd",
    "leave-initrd",
    "sysinit",
    "ready",
    "shutdown",
    "final",
];
/// Where a boot begins whose initrd is not systemd's.
const WITHOUT_INITRD: usize = 2;

/// The sections of the image that was started; nothing if PCR 11 holds no section.
///
/// # Errors
///
/// [`Reject::LogSections`] with the first event that is neither a section's name nor its digest.
pub fn uki_sections(measurements: &Measurements) -> Result<Option<Vec<UkiSection<'_>>>, Reject> {
    let events: Vec<_> = measurements.of(UKI_PCR).into_iter().flatten().collect();
    let name_of = |digest: &[u8]| {
        let is = |name: &&&str| is_name(measurements.alg(), name, digest);
        SECTIONS.iter().find(is).copied()
    };
    if events.iter().all(|event| name_of(event.digest).is_none()) {
        // What other loaders measure into PCR 11 is not of this grammar: BitLocker's keys, for example.
        return Ok(None);
    }
    let sections = events.chunks(2).map(|pair| match pair {
        [name, content] => Ok(UkiSection {
            name: name_of(name.digest).ok_or(Reject::LogSections(name.index))?,
            index: content.index,
            digest: content.digest,
        }),
        _ => Err(Reject::LogSections(pair.first().map_or(0, |event| event.index))),
    });
    sections.collect::<Result<_, _>>().map(Some)
}

fn is_name(alg: HashAlg, name: &str, digest: &[u8]) -> bool {
    alg.digest(&[name.as_bytes(), b"\0"]).as_bytes() == digest
}

/// The phases that PCR 11 went through after what `log` says of it, if `pcrs` are proven and these are what is missing.
#[must_use]
pub fn boot_phases(log: &EventLog, pcrs: &PcrValues, alg: HashAlg) -> Option<&'static [&'static str]> {
    let replayed = log.replay_of(alg, [UKI_PCR].into_iter().collect()).ok()?;
    let proven = pcrs.get(alg, UKI_PCR)?;
    let start = replayed.get(alg, UKI_PCR)?;
    let ways = std::iter::once(PHASES.get(..0).unwrap_or_default()).chain(ways());
    let mut ways = ways.filter(|phases| after(alg, *start, phases) == *proven);
    ways.next()
}

/// Whether PCR 11 begins with the name of a section.
pub(super) fn is_uki(log: &EventLog) -> bool {
    let first = log.events().find(|event| event.pcr == UKI_PCR);
    let mut digests = first.iter().flat_map(|event| event.digests.iter());
    digests.any(|(alg, digest)| SECTIONS.iter().any(|name| is_name(alg, name, digest)))
}

/// All beginnings of a boot, with systemd in the initrd or without.
pub(super) fn ways() -> impl Iterator<Item = &'static [&'static str]> {
    [0, WITHOUT_INITRD]
        .into_iter()
        .flat_map(|start| (start + 1..=PHASES.len()).filter_map(move |end| PHASES.get(start..end)))
}

/// What a PCR becomes by words.
pub(super) fn after(alg: HashAlg, start: Digest, phases: &[&str]) -> Digest {
    phases.iter().fold(start, |value, phase| {
        let phase = alg.digest(&[phase.as_bytes()]);
        alg.digest(&[value.as_bytes(), phase.as_bytes()])
    })
}
