//! PE images: their sections, and the digest by which firmware knows them (Microsoft, "PE Format"; "Windows
//! Authenticode Portable Executable Signature Format").
//!
//! No crate does both without a parser of CMS: `object` knows no Authenticode, `authenticode` brings CMS.

use crate::{Digest, HashAlg};

/// An image that parsed. Its parts lie in its bytes, one behind the other.
#[derive(Clone, Debug)]
pub struct PeImage<'a> {
    bytes: &'a [u8],
    /// Where the checksum stands, which signing changes.
    checksum: usize,
    /// Where the certificate table is named; images need not have the field.
    certificate_entry: Option<usize>,
    certificates_len: usize,
    headers_len: usize,
    sections: Vec<Section<'a>>,
}

/// A section of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    name: [u8; 8],
    /// Length in memory.
    pub(super) memory_len: usize,
    start: usize,
    /// What the file has of it.
    pub(super) data: &'a [u8],
}

/// A file is no PE image, or none that firmware would start.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeError {
    /// A part ends behind the file.
    #[error("image is cut short")]
    CutShort,
    /// Sections overlap, or lie in the headers.
    #[error("parts of the image overlap")]
    Overlap,
    /// Not an image at all.
    #[error("file is no PE image: a unified kernel image is an .efi file, as ukify makes it")]
    Signature,
    /// More sections than any image has.
    #[error("image has more than {} sections", PeImage::MAX_SECTIONS)]
    TooManySections,
}

/// Offsets in the optional header (PE Format, "Optional Header").
const HEADERS_LEN: usize = 60;
const CHECKSUM: usize = 64;
/// Number of data directories, in an image of 32 and of 64 bits.
const DIRECTORIES: [(u16, usize); 2] = [(0x10b, 92), (0x20b, 108)];
/// The certificate table's position among them.
const CERTIFICATES: usize = 4;
const COFF_LEN: usize = 20;
const SECTION_LEN: usize = 40;

impl<'a> PeImage<'a> {
    /// Most sections of an image: kernel images have about twenty.
    pub const MAX_SECTIONS: usize = 96;

    /// Parses an image.
    ///
    /// # Errors
    ///
    /// [`PeError`] says why it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        let pe = u32_at(bytes, 0x3c).ok_or(PeError::Signature)? as usize;
        let is_pe = bytes.starts_with(b"MZ") && bytes.get(pe..).is_some_and(|pe| pe.starts_with(b"PE\0\0"));
        if !is_pe {
            return Err(PeError::Signature);
        }
        let coff = pe + 4;
        let optional = coff + COFF_LEN;
        let directories = directories(bytes, optional)?;
        let sections_at = optional + usize::from(u16_at(bytes, coff + 16).ok_or(PeError::CutShort)?);
        let count = usize::from(u16_at(bytes, coff + 2).ok_or(PeError::CutShort)?);
        let headers_len = u32_at(bytes, optional + HEADERS_LEN).ok_or(PeError::CutShort)? as usize;
        let certificate_entry = directories.filter(|entry| entry + 8 <= headers_len);
        let image = Self {
            bytes,
            checksum: optional + CHECKSUM,
            certificate_entry,
            certificates_len: certificate_entry
                .and_then(|entry| u32_at(bytes, entry + 4))
                .unwrap_or(0) as usize,
            headers_len,
            sections: read_sections(bytes, sections_at, count)?,
        };
        image.check()?;
        Ok(image)
    }

    /// Headers first, then sections that do not overlap, then what is signed with them, then certificates. Firmware
    /// starts no other image, and none can make us hash its bytes more than once.
    fn check(&self) -> Result<(), PeError> {
        if self.headers_len < self.checksum + 4 {
            return Err(PeError::Overlap);
        }
        let mut end = self.headers_len;
        for section in self.sections.iter().filter(|section| !section.data.is_empty()) {
            if section.start < end {
                return Err(PeError::Overlap);
            }
            end = section.start + section.data.len();
        }
        if self.headers_len > self.bytes.len() || self.certificates_len > self.bytes.len() - self.headers_len
        {
            return Err(PeError::CutShort);
        }
        Ok(())
    }

    /// The digest of the image without what signing adds, as firmware extends it into PCR 4 and looks it up in `db`
    /// and `dbx`.
    #[must_use]
    pub fn authenticode(&self, alg: HashAlg) -> Digest {
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        let after_checksum = self.checksum + 4;
        let mut parts = vec![part(0, self.checksum)];
        match self.certificate_entry {
            Some(entry) => {
                parts.push(part(after_checksum, entry));
                parts.push(part(entry + 8, self.headers_len));
            }
            None => parts.push(part(after_checksum, self.headers_len)),
        }
        parts.extend(self.sections.iter().map(|section| section.data));
        // Firmware counts what it hashed; gaps between the parts move what comes last.
        let hashed = self.headers_len
            + self
                .sections
                .iter()
                .map(|section| section.data.len())
                .sum::<usize>();
        parts.push(part(hashed, self.bytes.len() - self.certificates_len));
        alg.digest(&parts)
    }

    /// The sections of this name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Section<'a>> {
        self.sections
            .iter()
            .filter(move |section| section.name() == Some(name))
    }
}

impl Section<'_> {
    /// Its name, if that is a text.
    fn name(&self) -> Option<&str> {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(8);
        str::from_utf8(self.name.get(..end)?).ok()
    }
}

/// Where the certificate table is named, if the image has so many directories.
fn directories(bytes: &[u8], optional: usize) -> Result<Option<usize>, PeError> {
    let magic = u16_at(bytes, optional).ok_or(PeError::CutShort)?;
    let (_, count_at) = DIRECTORIES
        .into_iter()
        .find(|(known, _)| *known == magic)
        .ok_or(PeError::Signature)?;
    let count = u32_at(bytes, optional + count_at).ok_or(PeError::CutShort)? as usize;
    Ok((count > CERTIFICATES).then_some(optional + count_at + 4 + CERTIFICATES * 8))
}

/// The sections in the order of the file, which is that in which firmware hashes them.
fn read_sections(bytes: &[u8], at: usize, count: usize) -> Result<Vec<Section<'_>>, PeError> {
    if count > PeImage::MAX_SECTIONS {
        return Err(PeError::TooManySections);
    }
    let read = |index: usize| read_section(bytes, at + index * SECTION_LEN).ok_or(PeError::CutShort);
    let mut sections = (0..count).map(read).collect::<Result<Vec<_>, _>>()?;
    sections.sort_by_key(|section| section.start);
    Ok(sections)
}

fn read_section(bytes: &[u8], at: usize) -> Option<Section<'_>> {
    let name = *bytes.get(at..)?.first_chunk()?;
    let len = u32_at(bytes, at + 16)? as usize;
    let start = u32_at(bytes, at + 20)? as usize;
    Some(Section {
        name,
        memory_len: u32_at(bytes, at + 8)? as usize,
        start,
        data: if len == 0 {
            &[]
        } else {
            bytes.get(start..start.checked_add(len)?)?
        },
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
