//! A TPM in software: its structures.

use rcgen::{KeyPair, PublicKeyData};

/// TPMT_PUBLIC, not yet marshalled.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) name_alg: u16,
    pub(crate) attributes: u32,
    pub(crate) policy: Vec<u8>,
    pub(crate) symmetric: Vec<u16>,
    pub(crate) scheme: Vec<u16>,
    pub(crate) key: Key,
}

/// The key in it.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Ecc { curve: u16, x: Vec<u8>, y: Vec<u8> },
    Rsa { exponent: u32, modulus: Vec<u8> },
}

pub(crate) const SHA1: u16 = 0x0004;
pub(crate) const SHA256: u16 = 0x000b;
pub(crate) const SHA384: u16 = 0x000c;
pub(crate) const NULL: u16 = 0x0010;
pub(crate) const ECDSA: u16 = 0x0018;
pub(crate) const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];
pub(crate) const AES_256_CFB: [u16; 3] = [0x0006, 256, 0x0043];
/// PolicyA of the EK Credential Profile.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

impl Area {
    /// An endorsement key by template L-1 or L-2.
    pub(crate) fn endorsement(key: &KeyPair) -> Self {
        Self {
            name_alg: SHA256,
            attributes: 0x0003_00b2,
            policy: hex::decode(POLICY_A).unwrap(),
            symmetric: AES_128_CFB.into(),
            scheme: vec![NULL],
            key: Key::of(key.der_bytes()),
        }
    }

    /// TPMT_PUBLIC.
    pub(crate) fn marshal(&self) -> Vec<u8> {
        let kind = match self.key {
            Key::Ecc { .. } => 0x0023,
            Key::Rsa { .. } => 0x0001,
        };
        let key = match &self.key {
            Key::Ecc { curve, x, y } => [words(&[*curve, NULL]), sized(x), sized(y)].concat(),
            Key::Rsa { exponent, modulus } => {
                let bits = u16::try_from(modulus.len() * 8).unwrap();
                [words(&[bits]), exponent.to_be_bytes().into(), sized(modulus)].concat()
            }
        };
        [
            words(&[kind, self.name_alg]),
            self.attributes.to_be_bytes().into(),
            sized(&self.policy),
            words(&self.symmetric),
            words(&self.scheme),
            key,
        ]
        .concat()
    }
}

impl Key {
    /// From an uncompressed point of 256 or 384 bits, or an RSAPublicKey of 2048 bits.
    fn of(public: &[u8]) -> Self {
        match public {
            [4, point @ ..] => {
                let (x, y) = point.split_at(point.len() / 2);
                Self::Ecc {
                    curve: if x.len() == 32 { 3 } else { 4 },
                    x: x.into(),
                    y: y.into(),
                }
            }
            // SEQUENCE and INTEGER have headers of four bytes, and the sign is one.
            rsa => Self::Rsa {
                exponent: 0,
                modulus: rsa[9..265].into(),
            },
        }
    }
}

/// UINT16s.
pub(crate) fn words(words: &[u16]) -> Vec<u8> {
    words.iter().copied().flat_map(u16::to_be_bytes).collect()
}

/// TPM2B.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
