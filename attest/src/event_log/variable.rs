//! UEFI_VARIABLE_DATA: how events hold a variable of the firmware.

use super::record::LeReader;
use crate::Reject;

/// A variable of the firmware. Whether it is to be believed depends on where it was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EfiVariable<'a> {
    /// GUID of the vendor, in the byte order of UEFI.
    pub vendor: [u8; 16],
    name: &'a [u8],
    /// Its value.
    pub data: &'a [u8],
}

impl<'a> EfiVariable<'a> {
    /// Parses a UEFI_VARIABLE_DATA. What follows the value is left out: old shims log too many bytes.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::read(&mut LeReader::new(bytes)).ok()
    }

    fn read(reader: &mut LeReader<'a>) -> Result<Self, Reject> {
        let vendor = reader.array()?;
        let name_len = reader.u64()?;
        let data_len = reader.u64()?;
        Ok(Self {
            vendor,
            name: reader.take(len(name_len.checked_mul(2))?)?,
            data: reader.take(len(Some(data_len))?)?,
        })
    }

    /// Its name; nothing if that is no UTF-16.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let units = self.name.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        char::decode_utf16(units).collect::<Result<_, _>>().ok()
    }
}

fn len(len: Option<u64>) -> Result<usize, Reject> {
    len.and_then(|len| usize::try_from(len).ok())
        .ok_or(Reject::LogMalformed)
}
