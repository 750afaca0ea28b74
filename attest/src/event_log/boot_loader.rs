//! What boot loaders measure by its text: GRUB its commands and command lines (PCR 8), systemd's boot loader and stub what
//! they pass on to the kernel (PCR 12). Of files (PCR 9, 13), and of shim's lists (PCR 14), a log has names alone, which
//! nothing proves (check 53).

use super::{Content, Event, Measurement, Measurements};
use crate::Reject;

/// A text that a boot loader measured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootText<'a> {
    /// Position of the event.
    pub index: u32,
    /// The PCR.
    pub pcr: u8,
    /// What the loader calls it: `grub_cmd`, `kernel_cmdline`, `module_cmdline`, or `load_options`. No digest covers that.
    pub claimed: &'static str,
    /// What was measured.
    pub text: BootBytes<'a>,
}

/// The bytes of a text, which are proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootBytes<'a> {
    /// In whatever encoding the file has that GRUB read: mostly UTF-8.
    Bytes(&'a [u8]),
    /// In UTF-16 with NUL.
    Utf16(&'a [u8]),
}

/// The PCR of GRUB's texts.
const GRUB_PCR: u8 = 8;
/// The PCR of what is passed on.
const PASSED_PCR: u8 = 12;
/// What GRUB writes before a text, and what we call it: some have no colon.
const GRUB_WORDS: [(&str, &str); 6] = [
    ("grub_cmd: ", "grub_cmd"),
    ("kernel_cmdline: ", "kernel_cmdline"),
    ("module_cmdline: ", "module_cmdline"),
    ("grub_cmd ", "grub_cmd"),
    ("grub_kernel_cmdline ", "kernel_cmdline"),
    ("grub_module_cmdline ", "module_cmdline"),
];

/// The texts of the loaders that were started, in the order of the log; nothing of PCRs that other loaders use. The text
/// has its event's digest: what the log tells beside is not shown.
///
/// # Errors
///
/// [`Reject::LogBootLoader`] with the first event of PCR 8 or 12 that is none of the loader's, where others are: it was put
/// in, or its text was taken out.
pub fn boot_texts(measurements: &Measurements) -> Result<Vec<BootText<'_>>, Reject> {
    let mut texts = of_pcr(measurements, GRUB_PCR, grub_text)?;
    texts.extend(of_pcr(measurements, PASSED_PCR, passed_text)?);
    texts.sort_by_key(|text| text.index);
    Ok(texts)
}

/// All or none of what a PCR holds is of a loader's grammar.
fn of_pcr<'a>(
    measurements: &'a Measurements,
    pcr: u8,
    text: fn(&Event<'a>, &Measurement<'a>) -> Option<BootText<'a>>,
) -> Result<Vec<BootText<'a>>, Reject> {
    let read = |(event, measured): &(Event<'a>, Measurement<'a>)| (event.index, text(event, measured));
    let events: Vec<_> = measurements.logged(pcr).map(|pair| read(&pair)).collect();
    if events.iter().all(|(_, text)| text.is_none()) {
        return Ok(Vec::new());
    }
    let or_refused = |(index, text): (u32, Option<BootText<'a>>)| text.ok_or(Reject::LogBootLoader(index));
    events.into_iter().map(or_refused).collect()
}

fn grub_text<'a>(event: &Event<'a>, measured: &Measurement<'a>) -> Option<BootText<'a>> {
    let (_, claimed) = GRUB_WORDS
        .iter()
        .find(|(word, _)| event.data.starts_with(word.as_bytes()))?;
    match measured.content {
        Content::Part(text) => Some(BootText {
            index: event.index,
            pcr: event.pcr,
            claimed,
            text: BootBytes::Bytes(text.strip_suffix(b"\0").unwrap_or(text)),
        }),
        Content::Absent | Content::Unended(_) | Content::Whole(_) => None,
    }
}

fn passed_text<'a>(event: &Event<'a>, measured: &Measurement<'a>) -> Option<BootText<'a>> {
    let Content::Whole(bytes) = measured.content else {
        return None;
    };
    let text = BootBytes::Utf16(bytes);
    let is_text = bytes.len() > 2
        && text
            .decoded()?
            .chars()
            .all(|char| !char.is_control() || char == '\t');
    is_text.then_some(BootText {
        index: event.index,
        pcr: event.pcr,
        claimed: "load_options",
        text,
    })
}

impl BootBytes<'_> {
    /// As a text, without the NUL at its end.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16(_) => self.decoded().unwrap_or_default(),
        }
    }

    fn decoded(self) -> Option<String> {
        let Self::Utf16(bytes) = self else {
            return None;
        };
        let (units, rest) = bytes.as_chunks();
        let units = units.iter().copied().map(u16::from_le_bytes);
        let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
        text.strip_suffix('\0')
            .filter(|_| rest.is_empty())
            .map(str::to_owned)
    }
}
