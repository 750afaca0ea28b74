//! TPMT_SIGNATURE: a signature by a TPM's key (Part 2 §11.3.4).

use super::{Reader, WireError};
use crate::HashAlg;

/// A parsed TPMT_SIGNATURE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Signature {
    /// ECDSA: r and s, big-endian, of any length up to the field's.
    Ecdsa {
        /// Hash that was signed.
        hash: HashAlg,
        /// First half.
        r: Box<[u8]>,
        /// Second half.
        s: Box<[u8]>,
    },
    /// RSASSA-PSS.
    RsaPss {
        /// Hash that was signed.
        hash: HashAlg,
        /// As long as the modulus.
        signature: Box<[u8]>,
    },
    /// RSASSA-PKCS1-v1_5.
    RsaSsa {
        /// Hash that was signed.
        hash: HashAlg,
        /// As long as the modulus.
        signature: Box<[u8]>,
    },
}

impl Signature {
    /// Parses a TPMT_SIGNATURE.
    ///
    /// # Errors
    ///
    /// It is malformed, or of a scheme that no attestation key has.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16()?;
        let hash = HashAlg::from_tpm(reader.u16()?).ok_or(WireError::Unsupported)?;
        let signature = match scheme {
            0x0014 => Self::RsaSsa {
                hash,
                signature: reader.sized(512)?.into(),
            },
            0x0016 => Self::RsaPss {
                hash,
                signature: reader.sized(512)?.into(),
            },
            0x0018 => Self::Ecdsa {
                hash,
                r: reader.sized(66)?.into(),
                s: reader.sized(66)?.into(),
            },
            _ => return Err(WireError::Unsupported),
        };
        reader.end()?;
        Ok(signature)
    }
}
