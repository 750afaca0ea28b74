//! TPMT_PUBLIC: the public area of a key (Part 2 §12.2.4), and the Name that follows from it.

use super::{Reader, WireError};
use crate::{HashAlg, Name};

/// A key's public area. Equal areas have equal bytes, and so equal Names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Public {
    bytes: Box<[u8]>,
    /// The hash of its Name.
    pub name_alg: HashAlg,
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// Digest of its authorization policy; empty if there is none.
    pub auth_policy: Box<[u8]>,
    /// Key and parameters.
    pub key: PublicKey,
}

/// The key itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicKey {
    /// Elliptic curve.
    Ecc(EccKey),
    /// RSA.
    Rsa(RsaKey),
}

/// TPMS_ECC_PARMS and TPMS_ECC_POINT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EccKey {
    /// What the key encrypts its children with.
    pub symmetric: Symmetric,
    /// How it signs.
    pub scheme: Scheme,
    /// Its curve.
    pub curve: Curve,
    /// Coordinates, as long as the curve's field.
    pub x: Box<[u8]>,
    /// Coordinates, as long as the curve's field.
    pub y: Box<[u8]>,
}

/// TPMS_RSA_PARMS and the modulus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RsaKey {
    /// What the key encrypts its children with.
    pub symmetric: Symmetric,
    /// How it signs.
    pub scheme: Scheme,
    /// Public exponent; the TPM's 0 reads as 65537.
    pub exponent: u32,
    /// Modulus, big-endian, `bits / 8` bytes.
    pub modulus: Box<[u8]>,
}

/// TPMT_SYM_DEF_OBJECT, as far as storage keys use it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Symmetric {
    /// AES in CFB mode, with a key of so many bits.
    AesCfb(u16),
    /// None: not a storage key.
    Null,
}

/// TPMT_RSA_SCHEME or TPMT_ECC_SCHEME, as far as attestation uses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// ECDSA over this hash.
    Ecdsa(HashAlg),
    /// None fixed.
    Null,
    /// RSASSA-PSS over this hash.
    RsaPss(HashAlg),
    /// RSASSA-PKCS1-v1_5 over this hash.
    RsaSsa(HashAlg),
}

/// TPM_ECC_CURVE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// Length of a coordinate in bytes.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;

impl Public {
    /// Longest public area in bytes: RSA-4096 needs about 600.
    pub const MAX_LEN: usize = 1024;

    /// Parses a TPMT_PUBLIC of an RSA or ECC key.
    ///
    /// # Errors
    ///
    /// It is malformed, or of a kind that no attestation or endorsement key has.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(WireError::OutOfBounds);
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let name_alg = hash(reader.u16()?)?;
        let attributes = reader.u32()?;
        let auth_policy = reader.sized(HashAlg::MAX_LEN)?.into();
        let key = match kind {
            ALG_RSA => PublicKey::Rsa(RsaKey::read(&mut reader)?),
            ALG_ECC => PublicKey::Ecc(EccKey::read(&mut reader)?),
            _ => return Err(WireError::Unsupported),
        };
        reader.end()?;
        Ok(Self {
            bytes: bytes.into(),
            name_alg,
            attributes,
            auth_policy,
            key,
        })
    }

    /// The bytes it was parsed from.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its Name: the hash algorithm, and the hash of the public area (Part 1 §16).
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(self.name_alg, &self.bytes)
    }

    /// The key as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        crate::ek::subject_public_key_info(&self.key)
    }
}

impl RsaKey {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let symmetric = Symmetric::read(reader)?;
        let scheme = Scheme::read(reader)?;
        let bits = reader.u16()?;
        let exponent = match reader.u32()? {
            0 => 65537,
            exponent => exponent,
        };
        let modulus = reader.sized(512)?;
        if modulus.len() * 8 != usize::from(bits) {
            return Err(WireError::OutOfBounds);
        }
        Ok(Self {
            symmetric,
            scheme,
            exponent,
            modulus: modulus.into(),
        })
    }
}

impl EccKey {
    /// The uncompressed point (SEC 1 §2.3.3).
    #[must_use]
    pub fn point(&self) -> Vec<u8> {
        [&[4], &*self.x, &*self.y].concat()
    }

    /// The key with this uncompressed point, on the curve of that size; it fixes no scheme.
    pub(crate) fn of_point(point: &[u8]) -> Option<Self> {
        let coordinates = point.strip_prefix(&[4])?;
        let mut curves = [Curve::P256, Curve::P384, Curve::P521].into_iter();
        let curve = curves.find(|curve| coordinates.len() == 2 * curve.coordinate_len())?;
        let (x, y) = coordinates.split_at_checked(curve.coordinate_len())?;
        Some(Self {
            symmetric: Symmetric::Null,
            scheme: Scheme::Null,
            curve,
            x: x.into(),
            y: y.into(),
        })
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let symmetric = Symmetric::read(reader)?;
        let scheme = Scheme::read(reader)?;
        let curve = match reader.u16()? {
            0x0003 => Curve::P256,
            0x0004 => Curve::P384,
            0x0005 => Curve::P521,
            _ => return Err(WireError::Unsupported),
        };
        if reader.u16()? != ALG_NULL {
            return Err(WireError::Unsupported);
        }
        let x = coordinate(reader, curve)?;
        let y = coordinate(reader, curve)?;
        Ok(Self {
            symmetric,
            scheme,
            curve,
            x,
            y,
        })
    }
}

/// A coordinate, padded to the length of the field: some TPMs leave leading zeros out.
fn coordinate(reader: &mut Reader<'_>, curve: Curve) -> Result<Box<[u8]>, WireError> {
    let bytes = reader.sized(curve.coordinate_len())?;
    let padding = curve.coordinate_len() - bytes.len();
    Ok(std::iter::repeat_n(0, padding)
        .chain(bytes.iter().copied())
        .collect())
}

impl Symmetric {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u16()? {
            ALG_NULL => Ok(Self::Null),
            ALG_AES => match (reader.u16()?, reader.u16()?) {
                (bits @ (128 | 192 | 256), ALG_CFB) => Ok(Self::AesCfb(bits)),
                _ => Err(WireError::Unsupported),
            },
            _ => Err(WireError::Unsupported),
        }
    }
}

impl Scheme {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u16()? {
            ALG_NULL => Ok(Self::Null),
            ALG_RSASSA => Ok(Self::RsaSsa(hash(reader.u16()?)?)),
            ALG_RSAPSS => Ok(Self::RsaPss(hash(reader.u16()?)?)),
            ALG_ECDSA => Ok(Self::Ecdsa(hash(reader.u16()?)?)),
            _ => Err(WireError::Unsupported),
        }
    }
}

fn hash(id: u16) -> Result<HashAlg, WireError> {
    HashAlg::from_tpm(id).ok_or(WireError::Unsupported)
}
