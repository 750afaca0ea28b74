//! A unified kernel image: a stub that measures the sections behind it.

use super::{PeError, PeImage, pe::Section};

/// A unified kernel image of which it is known what its stub measures.
#[derive(Clone, Debug)]
pub struct UkiImage<'a> {
    pe: PeImage<'a>,
    /// Name and content, in the order in which they are measured.
    sections: Vec<(&'static str, &'a [u8])>,
}

/// Why nothing can be predicted of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UkiError {
    /// A section of this name is there twice, as in an image of several profiles: which one is measured depends on
    /// what is chosen at boot.
    #[error("image has several sections `{0}`: build one image for each profile")]
    Choice(&'static str),
    /// What is measured of this section is not in the file.
    #[error("section `{0}` is longer in memory than in the file: build the image with ukify")]
    InMemory(&'static str),
    /// There is no kernel in it.
    #[error("image has no section `.linux`: it is no unified kernel image")]
    NoKernel,
    /// Its stub measures no section.
    #[error(
        "image begins with the stub of systemd {0}, which measures no section: build it with systemd {FIRST} or later"
    )]
    OldStub(u32),
    /// It can't be read.
    #[error("file is no image")]
    Pe(#[from] PeError),
    /// It is not known what its stub measures.
    #[error("image does not begin with systemd's stub: `.sdmagic` names no version")]
    Stub,
}

/// What systemd's stub measures, in this order, and since which version (systemd-stub(7), systemd's `uki.h`).
const MEASURED: [(&str, u32); 14] = [
    (".linux", FIRST),
    (".osrel", FIRST),
    (".cmdline", FIRST),
    (".initrd", FIRST),
    (".ucode", 256),
    (".splash", FIRST),
    (".dtb", FIRST),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", FIRST),
    (".profile", 257),
    (".dtbauto", 257),
    (".hwids", 257),
    (".efifw", 258),
];
/// The first version of systemd whose stub measures sections into PCR 11.
const FIRST: u32 = 252;
/// In front of the version in the stub's `.sdmagic`.
const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub ";

impl<'a> UkiImage<'a> {
    /// Longest image in bytes: real ones, with firmware in the initrd, reach 200 MB.
    pub const MAX_LEN: usize = 1 << 30;

    /// Parses an image.
    ///
    /// # Errors
    ///
    /// [`UkiError`] says why it can't be told what it measures.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let pe = PeImage::parse(bytes)?;
        let version = stub_version(&pe).ok_or(UkiError::Stub)?;
        if version < FIRST {
            return Err(UkiError::OldStub(version));
        }
        let mut sections = Vec::new();
        for (name, since) in MEASURED {
            let mut named = pe.named(name);
            match (named.next(), named.next()) {
                (Some(_), Some(_)) => return Err(UkiError::Choice(name)),
                (Some(section), None) if version >= since => sections.push((name, content(name, section)?)),
                _ => {}
            }
        }
        if sections.first().is_none_or(|(name, _)| *name != ".linux") {
            return Err(UkiError::NoKernel);
        }
        Ok(Self { pe, sections })
    }

    /// The image itself.
    #[must_use]
    pub const fn pe(&self) -> &PeImage<'a> {
        &self.pe
    }

    /// The sections that are measured, in this order: name and content.
    pub fn sections(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> {
        self.sections.iter().copied()
    }

    /// What is in a section, if it is measured.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections()
            .find(|(found, _)| *found == name)
            .map(|(_, content)| content)
    }

    /// The command line, if it is a text.
    #[must_use]
    pub fn command_line(&self) -> Option<&'a str> {
        str::from_utf8(self.section(".cmdline")?).ok()
    }
}

/// A section is filled up in the file; what is measured is as long as in memory.
fn content<'a>(name: &'static str, section: &Section<'a>) -> Result<&'a [u8], UkiError> {
    section
        .data
        .get(..section.memory_len)
        .ok_or(UkiError::InMemory(name))
}

/// The version of the stub: 252 of `252.39-1`.
fn stub_version(pe: &PeImage<'_>) -> Option<u32> {
    let magic = pe.named(".sdmagic").next()?;
    let version = magic.data.strip_prefix(MAGIC)?;
    let end = version.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(version.get(..end)?).ok()?.parse().ok()
}
