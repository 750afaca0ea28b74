//! What the log says of an event, for whoever reads it. No decision may rest on it (checks 47 and 48).

use super::{EfiVariable, Event, EventKind, record::LeReader, windows};
use crate::Reject;

/// Longest remark in characters.
const MAX: usize = 160;
/// The same of what Windows measures, which holds much at once.
const MAX_TAGGED: usize = 1024;

impl Event<'_> {
    /// The data as a text, without characters that a terminal would take for commands.
    #[must_use]
    pub fn remark(&self) -> String {
        let text = match self.kind.0 {
            0x8000_0001 | 0x8000_0002 | 0x8000_000C | 0x8000_00E0 => variable(self.data),
            0x8000_0003..=0x8000_0005 => image(self.data),
            0x8000_0006 | 0x8000_000D => None,
            0x06 => tag(self.data),
            _ => text(self.data),
        };
        let most = if self.kind.0 == 0x06 { MAX_TAGGED } else { MAX };
        match text {
            Some(text) => printable(&text, most),
            None if self.kind == EventKind::SEPARATOR || self.data.len() <= 16 => hex::encode(self.data),
            None => format!("{} bytes", self.data.len()),
        }
    }
}

fn variable(data: &[u8]) -> Option<String> {
    let variable = EfiVariable::parse(data)?;
    Some(format!("{} ({} bytes)", variable.name()?, variable.data.len()))
}

/// UEFI_IMAGE_LOAD_EVENT: where the image was, in memory and on the disk.
fn image(data: &[u8]) -> Option<String> {
    let read = || -> Result<String, Reject> {
        let mut reader = LeReader::new(data);
        let _address = reader.u64()?;
        let len = reader.u64()?;
        let _link_time = reader.u64()?;
        let path_len = usize::try_from(reader.u64()?).map_err(|_| Reject::LogMalformed)?;
        let path = device_path(reader.take(path_len)?);
        Ok(format!("{path} ({len} bytes in memory)"))
    };
    read().ok()
}

/// EFI_DEVICE_PATH_PROTOCOL, as the UEFI shell prints it, as far as it can be read (UEFI 2.10 §10).
fn device_path(bytes: &[u8]) -> String {
    let mut reader = LeReader::new(bytes);
    let mut nodes = Vec::new();
    while let Ok(node) = read_node(&mut reader) {
        match node {
            (0x7f, ..) => break,
            (kind, subtype, data) => nodes.push(show_node(kind, subtype, data)),
        }
    }
    nodes.join("/")
}

/// Type, subtype, and what is in the node.
fn read_node<'a>(reader: &mut LeReader<'a>) -> Result<(u8, u8, &'a [u8]), Reject> {
    let (kind, subtype) = (reader.u8()?, reader.u8()?);
    let len = usize::from(reader.u16()?);
    let data = reader.take(len.checked_sub(4).ok_or(Reject::LogMalformed)?)?;
    Ok((kind, subtype, data))
}

fn show_node(kind: u8, subtype: u8, data: &[u8]) -> String {
    let number = |at: usize| {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    match (kind, subtype, data) {
        (1, 1, [function, device]) => format!("Pci({device:#x},{function:#x})"),
        (2, 1, _) => format!("Acpi({:#x},{})", number(0), number(4)),
        (3, 0x12, _) => format!("Sata({})", number(0) & 0xffff),
        (3, 0x17, _) => format!("NVMe({})", number(0)),
        (3, 0x0b, _) => "MAC".into(),
        (4, 1, _) => format!("HD({})", number(0)),
        (4, 4, path) => utf16(path).unwrap_or_else(|| "File".into()),
        (4, 6 | 7, guid) => format!("Fv({})", hex::encode(guid)),
        _ => format!("Path({kind},{subtype})"),
    }
}

/// TCG_PCClientTaggedEvent: a number, and data with its length; of Windows with names.
fn tag(data: &[u8]) -> Option<String> {
    let mut reader = LeReader::new(data);
    let (id, len) = (reader.u32().ok()?, reader.u32().ok()?);
    let body = reader.take(len as usize).ok()?;
    if let Some(text) = windows::tagged(id, body, MAX_TAGGED) {
        return Some(text);
    }
    let text = text(body).unwrap_or_else(|| format!("{} bytes", body.len()));
    Some(format!("tag {id:#010x} {text}"))
}

/// A text in UTF-8 or UTF-16.
fn text(data: &[u8]) -> Option<String> {
    let is_text =
        |text: &str| !text.is_empty() && text.chars().all(|char| !char.is_control() || char == '\n');
    let plain = str::from_utf8(data)
        .ok()
        .map(|text| text.trim_end_matches('\0').to_owned());
    plain
        .filter(|text| is_text(text))
        .or_else(|| utf16(data).filter(|text| is_text(text)))
}

fn utf16(data: &[u8]) -> Option<String> {
    let (units, rest) = data.as_chunks();
    let units = units.iter().copied().map(u16::from_le_bytes);
    let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
    rest.is_empty().then(|| text.trim_end_matches('\0').to_owned())
}

fn printable(text: &str, most: usize) -> String {
    let shown: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    shown
        .replace("\\'", "'")
        .replace("\\\"", "\"")
        .replace("\\\\", "\\")
}
