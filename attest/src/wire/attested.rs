//! TPMS_ATTEST: what the TPM signs of itself (Part 2 §10.12).

use super::{Reader, WireError};
use crate::{HashAlg, PcrSelection};

/// A parsed TPMS_ATTEST.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attest {
    /// TPM_GENERATED_VALUE if the TPM made it: a restricted key signs nothing from outside that begins so.
    pub magic: u32,
    /// Qualified Name of the signing key.
    pub qualified_signer: Box<[u8]>,
    /// What the caller asked to be signed along.
    pub extra_data: Box<[u8]>,
    /// The TPM's clock and how often it was reset.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested,
}

/// TPMS_CLOCK_INFO.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered.
    pub clock: u64,
    /// Resets of the TPM since it was cleared.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether no larger value of `clock` was ever reported.
    pub safe: bool,
}

/// The two kinds of statement that are used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attested {
    /// TPMS_CERTIFY_INFO: a key is in the TPM.
    Certify {
        /// Name of the key.
        name: Box<[u8]>,
    },
    /// TPMS_QUOTE_INFO: PCRs have values with this digest.
    Quote {
        /// Which PCRs.
        selection: PcrSelection,
        /// Digest over their values.
        pcr_digest: Box<[u8]>,
    },
}

const TAG_ATTEST_CERTIFY: u16 = 0x8017;
const TAG_ATTEST_QUOTE: u16 = 0x8018;
/// A Name: algorithm and digest.
const MAX_NAME: usize = 2 + HashAlg::MAX_LEN;

impl Attest {
    /// TPM_GENERATED_VALUE.
    pub const MAGIC: u32 = 0xFF54_4347;
    /// Longest statement in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Parses a TPMS_ATTEST of a quote or certification.
    ///
    /// # Errors
    ///
    /// It is malformed, of another kind, or something follows it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(WireError::OutOfBounds);
        }
        let mut reader = Reader::new(bytes);
        let magic = reader.u32()?;
        let kind = reader.u16()?;
        let qualified_signer = reader.sized(MAX_NAME)?.into();
        let extra_data = reader.sized(HashAlg::MAX_LEN)?.into();
        let clock = ClockInfo::read(&mut reader)?;
        let firmware_version = reader.u64()?;
        let attested = match kind {
            TAG_ATTEST_CERTIFY => read_certify(&mut reader)?,
            TAG_ATTEST_QUOTE => read_quote(&mut reader)?,
            _ => return Err(WireError::Unsupported),
        };
        reader.end()?;
        Ok(Self {
            magic,
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            attested,
        })
    }
}

impl ClockInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            clock: reader.u64()?,
            reset_count: reader.u32()?,
            restart_count: reader.u32()?,
            safe: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(WireError::OutOfBounds),
            },
        })
    }
}

fn read_certify(reader: &mut Reader<'_>) -> Result<Attested, WireError> {
    let name = reader.sized(MAX_NAME)?.into();
    let _qualified_name = reader.sized(MAX_NAME)?;
    Ok(Attested::Certify { name })
}

fn read_quote(reader: &mut Reader<'_>) -> Result<Attested, WireError> {
    let selection = PcrSelection::read(reader)?;
    let pcr_digest = reader.sized(HashAlg::MAX_LEN)?.into();
    Ok(Attested::Quote {
        selection,
        pcr_digest,
    })
}
