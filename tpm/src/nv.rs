//! NV memory: the endorsement keys' certificates, and what replaces parts of their templates.

use plugin_api::TpmError;
use tracing::warn;
use tss_esapi::{
    Error,
    constants::PropertyTag,
    handles::{NvIndexHandle, NvIndexTpmHandle},
    interface_types::resource_handles::NvAuth,
};

use crate::{
    device::Open,
    error::{failed, is_lost},
    keys::authorized,
};

/// Bytes that any TPM reads at once.
const SMALLEST_BUFFER: u32 = 512;
/// Bytes that libtss2 takes at once.
const LARGEST_BUFFER: u32 = 2048;

impl Open {
    /// What an NV index holds; `None` if it is not among `defined`, or can't be read.
    pub(crate) fn read_nv(&mut self, index: u32, defined: &[u32]) -> Result<Option<Vec<u8>>, TpmError> {
        if !defined.contains(&index) {
            return Ok(None);
        }
        match self.read_index(index).map_err(failed("TPM2_NV_Read")) {
            Ok(content) => Ok(Some(content)),
            Err(error) if is_lost(&error) => Err(error),
            Err(error) => {
                warn!(nv_index = format!("{index:#010x}"), %error, "NV index could not be read");
                Ok(None)
            }
        }
    }

    fn read_index(&mut self, index: u32) -> Result<Vec<u8>, Error> {
        let mut object = self
            .context
            .tr_from_tpm_public(NvIndexTpmHandle::new(index)?.into())?;
        let content = self.read_all(object.into());
        self.context.tr_close(&mut object)?;
        content
    }

    fn read_all(&mut self, index: NvIndexHandle) -> Result<Vec<u8>, Error> {
        let buffer = self.context.get_tpm_property(PropertyTag::NvBufferMax)?;
        let buffer = buffer.unwrap_or(SMALLEST_BUFFER).clamp(64, LARGEST_BUFFER);
        let size = self.context.nv_read_public(index)?.0.data_size();
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            let rest = u32::try_from(size - content.len()).unwrap_or(buffer);
            let part = self.read_part(index, rest.min(buffer), content.len())?;
            if part.is_empty() {
                break;
            }
            content.extend(part);
        }
        Ok(content)
    }

    /// By the index's own authorization, which is empty for certificates, else by the owner's.
    fn read_part(&mut self, index: NvIndexHandle, len: u32, offset: usize) -> Result<Vec<u8>, Error> {
        let (len, offset) = (to_u16(len as usize), to_u16(offset));
        let mut read = |auth| {
            authorized(&mut self.context, |context| {
                context.nv_read(auth, index, len, offset)
            })
        };
        let part = read(NvAuth::NvIndex(index)).or_else(|error| read(NvAuth::Owner).map_err(|_| error))?;
        Ok(part.value().to_vec())
    }
}

/// Sizes and offsets in NV memory are 16 bits wide.
fn to_u16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Certificates that stand one after the other, over as many indices as they take; an index may end in padding.
pub(crate) fn split_certificates(indices: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut certificates = Vec::new();
    let mut rest = Vec::new();
    for index in indices {
        rest.extend_from_slice(index);
        while let Some(len) = der_len(&rest).filter(|len| *len <= rest.len()) {
            certificates.push(rest.drain(..len).collect());
        }
        if der_len(&rest).is_none() {
            rest.clear();
        }
    }
    certificates
}

/// Length of the SEQUENCE at the front, header included; `None` if there is none.
fn der_len(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        [0x30, 0x81, len, ..] => Some(3 + usize::from(len)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_certificates_over_indices() {
        let long = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        let short = [&[0x30, 0x81, 130][..], &[8; 130]].concat();
        let check = |indices: &[&[u8]], expected: &[&[u8]]| {
            let indices: Vec<_> = indices.iter().map(|index| index.to_vec()).collect();
            assert_eq!(split_certificates(&indices), expected);
        };
        check(&[], &[]);
        check(&[&[0xff; 20]], &[]);
        check(&[&[&long[..], &short].concat()], &[&long, &short]);
        check(
            &[&[&long[..], &short[..50]].concat(), &short[50..]],
            &[&long, &short],
        );
        check(&[&[&long[..], &[0; 9]].concat(), &short], &[&long, &short]);
        check(&[&long[..100]], &[]);
    }
}
