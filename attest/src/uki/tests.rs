//! A small image, each part to be changed.

use super::*;
use crate::{Digest, HashAlg, event_log::PHASES};

/// An image of 64 bits, filled up as linkers do.
struct Builder {
    sections: Vec<(&'static str, Vec<u8>)>,
    certificates: Vec<u8>,
    checksum: u32,
}

const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0";
/// Of the file.
const ALIGNMENT: usize = 512;
const PE: usize = 0x40;
const OPTIONAL: usize = PE + 24;
const SECTIONS: usize = OPTIONAL + 240;
const HEADERS: usize = 1024;

impl Builder {
    fn uki() -> Self {
        Self {
            sections: vec![
                (".text", vec![0xc3; 700]),
                (".sdmagic", MAGIC.to_vec()),
                (".sbat", b"sbat,1".to_vec()),
                (".osrel", b"ID=test\n".to_vec()),
                (".cmdline", b"quiet".to_vec()),
                (".linux", b"a kernel".to_vec()),
                (".initrd", vec![7; 513]),
            ],
            certificates: Vec::new(),
            checksum: 0,
        }
    }

    fn with(mut self, name: &'static str, content: &[u8]) -> Self {
        self.sections.push((name, content.to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.sections.retain(|(found, _)| *found != name);
        self
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"MZ");
        put(0x3c, &dword(PE));
        put(PE, b"PE\0\0\x64\x86");
        put(PE + 6, &dword(self.sections.len())[..2]);
        put(PE + 20, &240_u16.to_le_bytes());
        put(OPTIONAL, &0x20b_u16.to_le_bytes());
        put(OPTIONAL + 60, &dword(HEADERS));
        put(OPTIONAL + 64, &self.checksum.to_le_bytes());
        put(OPTIONAL + 108, &16_u32.to_le_bytes());
        let mut start = HEADERS;
        for (index, (name, content)) in self.sections.iter().enumerate() {
            let at = SECTIONS + index * 40;
            let len = content.len().next_multiple_of(ALIGNMENT);
            put(at, name.as_bytes());
            put(at + 8, &dword(content.len()));
            put(at + 16, &dword(len));
            put(at + 20, &dword(start));
            start += len;
        }
        if !self.certificates.is_empty() {
            put(OPTIONAL + 112 + 32, &dword(start));
            put(OPTIONAL + 112 + 36, &dword(self.certificates.len()));
        }
        for (_, content) in &self.sections {
            let padding = content.len().next_multiple_of(ALIGNMENT) - content.len();
            bytes.extend(content);
            bytes.extend(vec![0; padding]);
        }
        bytes.extend(&self.certificates);
        bytes
    }
}

fn dword(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap().to_le_bytes()
}

fn predict(image: &Builder) -> Result<Prediction, UkiError> {
    UkiImage::parse(&image.build()).map(|image| Prediction::of(&image, HashAlg::Sha256))
}

fn refused(image: &Builder, expected: UkiError) {
    assert_eq!(predict(image).err(), Some(expected));
}

#[test]
fn measures_sections_in_the_order_of_the_stub() {
    let prediction = predict(&Builder::uki()).unwrap();
    let names: Vec<_> = prediction
        .sections
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, [".linux", ".osrel", ".cmdline", ".initrd"]);
    assert_eq!(prediction.sections[3].1, HashAlg::Sha256.digest(&[&[7; 513]]));
    assert_eq!(prediction.command_line.as_deref(), Some("quiet"));
    assert_eq!(
        prediction.kernel, None,
        "what is no PE image is not measured as one"
    );
}

/// The stub of systemd 254 and later measures `.uname` and `.sbat` too; `.pcrsig` is never measured.
#[test]
fn measures_what_its_version_of_the_stub_measures() {
    let newer = Builder::uki()
        .without(".sdmagic")
        .with(".sdmagic", b"#### LoaderInfo: systemd-stub 257~rc1 ####\0")
        .with(".pcrsig", b"{}")
        .with(".uname", b"6.1")
        .with(".ucode", b"microcode");
    let prediction = predict(&newer).unwrap();
    let names: Vec<_> = prediction
        .sections
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".uname", ".sbat"
        ]
    );
}

#[test]
fn knows_a_kernel_that_is_an_image_itself() {
    let kernel = Builder::uki().build();
    let expected = PeImage::parse(&kernel).unwrap().authenticode(HashAlg::Sha256);
    let outer = Builder::uki().without(".linux").with(".linux", &kernel);
    assert_eq!(predict(&outer).unwrap().kernel, Some(expected));
}

#[test]
fn refuses_what_it_cannot_predict() {
    refused(&Builder::uki().without(".linux"), UkiError::NoKernel);
    refused(&Builder::uki().without(".sdmagic"), UkiError::Stub);
    refused(
        &Builder::uki()
            .without(".sdmagic")
            .with(".sdmagic", b"systemd-boot"),
        UkiError::Stub,
    );
    // Up to systemd 251 PCR 11 stays zero.
    let stub_of = |magic| Builder::uki().without(".sdmagic").with(".sdmagic", magic);
    refused(
        &stub_of(b"#### LoaderInfo: systemd-stub 251.4-1ubuntu7 ####\0"),
        UkiError::OldStub(251),
    );
    assert!(predict(&stub_of(b"#### LoaderInfo: systemd-stub 252 ####\0")).is_ok());
    refused(
        &Builder::uki().with(".cmdline", b"second"),
        UkiError::Choice(".cmdline"),
    );
    let mut long = Builder::uki().build();
    let cmdline = SECTIONS + 4 * 40;
    long[cmdline + 8..cmdline + 12].copy_from_slice(&513_u32.to_le_bytes());
    assert_eq!(UkiImage::parse(&long).err(), Some(UkiError::InMemory(".cmdline")));
}

fn authenticode(image: &Builder) -> Digest {
    let bytes = image.build();
    PeImage::parse(&bytes).unwrap().authenticode(HashAlg::Sha256)
}

/// osslsigncode calculates the same.
#[test]
fn has_the_digest_of_authenticode() {
    let digest = "4b2501836a32debe2d365ad76edf841e7933ed78c558acc3aebbb00a9cf52d65";
    assert_eq!(authenticode(&Builder::uki()).to_string(), digest);
}

#[test]
fn signing_changes_no_digest_and_everything_else_does() {
    let plain = authenticode(&Builder::uki());
    let signed = Builder {
        certificates: vec![1; 64],
        checksum: 7,
        ..Builder::uki()
    };
    assert_eq!(authenticode(&signed), plain);
    let bytes = Builder::uki().build();
    let digest_of = |bytes: &[u8]| {
        PeImage::parse(bytes)
            .ok()
            .map(|image| image.authenticode(HashAlg::Sha256))
    };
    let ignored = |at: usize| {
        (OPTIONAL + 64..OPTIONAL + 68).contains(&at) || (OPTIONAL + 144..OPTIONAL + 152).contains(&at)
    };
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if !ignored(at) {
            assert_ne!(digest_of(&changed), Some(plain), "byte {at}");
        }
    }
}

#[test]
fn refuses_images_whose_parts_overlap_or_are_missing() {
    let good = Builder::uki().build();
    let check = |at: usize, value: u32, expected: PeError| {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(PeImage::parse(&bad).err(), Some(expected), "{at:#x} {value}");
    };
    check(0, 0, PeError::Signature);
    check(PE, 0, PeError::Signature);
    check(0x3c, u32::MAX, PeError::Signature);
    check(OPTIONAL, 0, PeError::Signature);
    check(PE + 6, 97, PeError::TooManySections);
    check(OPTIONAL + 60, 0, PeError::Overlap);
    check(OPTIONAL + 60, u32::MAX, PeError::Overlap);
    check(SECTIONS + 20, 512, PeError::Overlap);
    check(SECTIONS + 16, 4096, PeError::Overlap);
    check(SECTIONS + 40 + 20, u32::MAX, PeError::CutShort);
    check(OPTIONAL + 112 + 36, u32::MAX, PeError::CutShort);
    for len in 0..good.len() {
        assert!(PeImage::parse(&good[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn phases_extend_what_the_stub_left() {
    let prediction = predict(&Builder::uki()).unwrap();
    let step = |value: Digest, phase: &str| {
        let phase = HashAlg::Sha256.digest(&[phase.as_bytes()]);
        HashAlg::Sha256.digest(&[value.as_bytes(), phase.as_bytes()])
    };
    let ready = step(step(prediction.pcr11(&[]), "sysinit"), "ready");
    assert_eq!(prediction.pcr11(&PHASES[2..4]), ready);
    assert!(prediction.pcr12().is_filled(0));
}
