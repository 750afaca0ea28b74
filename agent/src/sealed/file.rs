//! The form of the file: what it is and by which key, in the clear and authenticated; then everything else, encrypted
//! under that key (AES-256-GCM).
//!
//! ```text
//!   "plstate\0" │ version, 2 bytes │ length of the header, 4 bytes │ SealedHeader │ nonce, 12 bytes │ SealedState, tag
//!   └───────────────────── associated data ─────────────────────────────────────┘                 └─ encrypted ─┘
//! ```
//!
//! Nonces are drawn. A key seals a file each time something changes. It outlives a restart while the server is away, and
//! goes once the server says something else: at one file a second it is good for 136 years (2^32 files).

use attest::Name;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use plugin_api::{Sealed, SealedKey, Sealing};
use prost::Message;
use proto::plastron::agent::v1 as wire;
use svid::TrustDomain;
use zeroize::Zeroizing;

use super::message::{sealing_from_wire, sealing_to_wire};

/// A file of which only the header was read.
#[derive(Debug)]
pub struct Envelope {
    key: KeyInFile,
    header: Vec<u8>,
    nonce: [u8; NONCE_LEN],
    encrypted: Vec<u8>,
}

/// The key of a file, as the TPM sealed it, and to what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyInFile {
    /// What it was sealed to.
    pub sealing: Sealing,
    /// What the TPM opens.
    pub sealed: Sealed,
}

/// A file is not what this agent wrote on this host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FileError {
    /// Its key does not open it: it was changed.
    #[error("it was changed since it was written")]
    Changed,
    /// The header is not what was written.
    #[error("its header is malformed")]
    Header,
    /// It is something else.
    #[error("it is no sealed state")]
    Other,
    /// It is larger than such a file may be.
    #[error("it is longer than {} MiB", MAX_LEN / 1024 / 1024)]
    TooLarge,
    /// It is shorter than it says.
    #[error("it is cut short")]
    Truncated,
    /// It is of another trust domain.
    #[error("it is of trust domain `{0}`")]
    TrustDomain(String),
    /// Another version of the agent wrote it.
    #[error("it has version {0}, and this agent reads {VERSION}")]
    Version(u16),
}

/// Longest file in bytes: SVIDs and entries of a host take 2 KiB each.
pub const MAX_LEN: usize = 64 * 1024 * 1024;
/// Longest header in bytes.
const MAX_HEADER: usize = 16 * 1024;
const MAGIC: [u8; 8] = *b"plstate\0";
const VERSION: u16 = 1;

impl Envelope {
    /// Reads the header of a file of `trust_domain`.
    ///
    /// # Errors
    ///
    /// It is another file, or of somebody else.
    pub fn parse(bytes: &[u8], trust_domain: &TrustDomain) -> Result<Self, FileError> {
        if bytes.len() > MAX_LEN {
            return Err(FileError::TooLarge);
        }
        let (magic, rest) = bytes.split_first_chunk().ok_or(FileError::Other)?;
        if *magic != MAGIC {
            return Err(FileError::Other);
        }
        let (version, rest) = rest.split_first_chunk().ok_or(FileError::Truncated)?;
        match u16::from_be_bytes(*version) {
            VERSION => {}
            other => return Err(FileError::Version(other)),
        }
        let (length, rest) = rest.split_first_chunk().ok_or(FileError::Truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| FileError::Header)?;
        if length > MAX_HEADER {
            return Err(FileError::Header);
        }
        let (message, rest) = rest.split_at_checked(length).ok_or(FileError::Truncated)?;
        let (nonce, encrypted) = rest.split_first_chunk().ok_or(FileError::Truncated)?;
        Ok(Self {
            key: KeyInFile::parse(message, trust_domain)?,
            header: header(message),
            nonce: *nonce,
            encrypted: encrypted.into(),
        })
    }

    /// Its key, which the TPM opens.
    #[must_use]
    pub const fn key(&self) -> &KeyInFile {
        &self.key
    }

    /// What it holds, and its key once more.
    ///
    /// # Errors
    ///
    /// The key is another one, or a byte of the file was changed.
    pub fn open(self, key: &SealedKey) -> Result<(Zeroizing<Vec<u8>>, KeyInFile), FileError> {
        let mut content = Zeroizing::new(self.encrypted);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let cipher = cipher(key).ok_or(FileError::Changed)?;
        let opened = cipher.open_in_place(nonce, Aad::from(&self.header), content.as_mut_slice());
        let length = opened.map_err(|_| FileError::Changed)?.len();
        content.truncate(length);
        Ok((content, self.key))
    }
}

impl KeyInFile {
    /// A file that holds `content`, encrypted under `key`, which is this one.
    ///
    /// # Errors
    ///
    /// There is too much of it.
    pub fn close(
        &self,
        key: &SealedKey,
        mut content: Zeroizing<Vec<u8>>,
        trust_domain: &TrustDomain,
    ) -> Result<Vec<u8>, FileError> {
        let mut file = header(&self.to_wire(trust_domain).encode_to_vec());
        let nonce: [u8; NONCE_LEN] = edge::random();
        let cipher = cipher(key).ok_or(FileError::TooLarge)?;
        let tag = cipher.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&file),
            content.as_mut_slice(),
        );
        let tag = tag.map_err(|_| FileError::TooLarge)?;
        if file.len() + nonce.len() + content.len() + tag.as_ref().len() > MAX_LEN {
            return Err(FileError::TooLarge);
        }
        for part in [&nonce, content.as_slice(), tag.as_ref()] {
            file.extend_from_slice(part);
        }
        Ok(file)
    }

    fn parse(message: &[u8], trust_domain: &TrustDomain) -> Result<Self, FileError> {
        let header = wire::SealedHeader::decode(message).map_err(|_| FileError::Header)?;
        if header.trust_domain != trust_domain.as_str() {
            return Err(FileError::TrustDomain(header.trust_domain));
        }
        let key = header.key.ok_or(FileError::Header)?;
        let sealing = key.sealing.as_ref().and_then(sealing_from_wire);
        let sealing = sealing.ok_or(FileError::Header)?;
        let parent = Name::parse(&key.parent).map_err(|_| FileError::Header)?;
        Ok(Self {
            sealed: Sealed {
                public: key.public,
                private: key.private,
                pcrs: sealing.pcrs().clone(),
                parent: Some(parent),
            },
            sealing,
        })
    }

    fn to_wire(&self, trust_domain: &TrustDomain) -> wire::SealedHeader {
        let Sealed {
            public,
            private,
            parent,
            ..
        } = &self.sealed;
        wire::SealedHeader {
            trust_domain: trust_domain.as_str().into(),
            key: Some(wire::SealedKey {
                sealing: Some(sealing_to_wire(&self.sealing)),
                public: public.clone(),
                private: private.clone(),
                parent: parent
                    .as_ref()
                    .map(|name| name.as_bytes().into())
                    .unwrap_or_default(),
            }),
        }
    }
}

/// All that comes before the nonce.
fn header(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(message);
    header
}

fn cipher(key: &SealedKey) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice());
    key.ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn td(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    fn sealed() -> KeyInFile {
        let pcrs: attest::PcrSelection = "sha256:0,7".parse().unwrap();
        let name = attest::HashAlg::Sha256.digest(&[b"storage key"]);
        KeyInFile {
            sealed: Sealed {
                public: vec![1; 46],
                private: vec![2; 126],
                pcrs: pcrs.clone(),
                parent: Some(Name::parse(&[&[0, 0x0b], name.as_bytes()].concat()).unwrap()),
            },
            sealing: Sealing::new(pcrs, [3; 32]).unwrap(),
        }
    }

    fn file(content: &[u8]) -> Vec<u8> {
        let content = Zeroizing::new(content.to_vec());
        sealed().close(&Zeroizing::new(KEY), content, &td("td")).unwrap()
    }

    fn read(file: &[u8]) -> Result<Vec<u8>, FileError> {
        let envelope = Envelope::parse(file, &td("td"))?;
        envelope
            .open(&Zeroizing::new(KEY))
            .map(|(content, _)| content.to_vec())
    }

    #[test]
    fn what_is_closed_opens_with_its_key_and_shows_nothing() {
        let file = file(b"all that it keeps");
        assert_eq!(read(&file), Ok(b"all that it keeps".to_vec()));
        let envelope = Envelope::parse(&file, &td("td")).unwrap();
        assert_eq!(envelope.key(), &sealed());
        assert!(!file.windows(4).any(|part| part == b"keep"));
        let again = self::file(b"all that it keeps");
        assert_ne!(file, again, "another nonce");
    }

    #[test]
    fn each_bit_of_a_file_counts() {
        let good = file(b"content");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                assert!(read(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_or_goes_on_is_refused() {
        let good = file(b"content");
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(read(&[&good[..], &[0]].concat()), Err(FileError::Changed));
        assert_eq!(read(b""), Err(FileError::Other));
    }

    #[test]
    fn what_others_wrote_is_named() {
        let good = file(b"content");
        let foreign = Envelope::parse(&good, &td("other")).unwrap_err();
        assert_eq!(foreign, FileError::TrustDomain("td".into()));
        let mut newer = good.clone();
        newer[9] = 2;
        assert_eq!(read(&newer), Err(FileError::Version(2)));
        assert_eq!(read(&[b"{}".as_slice(), &good].concat()), Err(FileError::Other));
        let envelope = Envelope::parse(&good, &td("td")).unwrap();
        let other_key = envelope.open(&Zeroizing::new([8; 32]));
        assert_eq!(other_key.unwrap_err(), FileError::Changed);
    }

    #[test]
    fn a_file_has_a_largest_size() {
        assert_eq!(read(&vec![0; MAX_LEN + 1]), Err(FileError::TooLarge));
        let content = Zeroizing::new(vec![0; MAX_LEN]);
        let closed = sealed().close(&Zeroizing::new(KEY), content, &td("td"));
        assert_eq!(closed, Err(FileError::TooLarge));
    }
}
