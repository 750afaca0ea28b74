//! A TPM in software: its structures, and keys that sign what no TPM would.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rcgen::{KeyPair, PublicKeyData};

/// TPMT_PUBLIC, not yet marshalled.
#[derive(Clone, Debug)]
pub struct Area {
    /// TPM_ALG_ID of its Name's hash.
    pub name_alg: u16,
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// Digest of its policy.
    pub policy: Vec<u8>,
    /// TPMT_SYM_DEF_OBJECT.
    pub symmetric: Vec<u16>,
    /// TPMT_ASYM_SCHEME.
    pub scheme: Vec<u16>,
    /// The rest of the parameters, and what is unique.
    pub key: Key,
}

/// The key in it.
#[derive(Clone, Debug)]
pub enum Key {
    /// TPM_ECC_CURVE and a point.
    Ecc {
        /// The curve.
        curve: u16,
        /// Coordinate.
        x: Vec<u8>,
        /// Coordinate.
        y: Vec<u8>,
    },
    /// RSA.
    Rsa {
        /// Public exponent; 0 stands for 65537.
        exponent: u32,
        /// Modulus.
        modulus: Vec<u8>,
    },
}

/// TPM_ALG_SHA1.
pub const SHA1: u16 = 0x0004;
/// TPM_ALG_SHA256.
pub const SHA256: u16 = 0x000b;
/// TPM_ALG_SHA384.
pub const SHA384: u16 = 0x000c;
/// TPM_ALG_NULL.
pub const NULL: u16 = 0x0010;
/// TPM_ALG_ECDSA.
pub const ECDSA: u16 = 0x0018;
/// TPMT_SYM_DEF_OBJECT of AES-128 in CFB mode.
pub const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];
/// TPMT_SYM_DEF_OBJECT of AES-256 in CFB mode.
pub const AES_256_CFB: [u16; 3] = [0x0006, 256, 0x0043];
/// PolicyA of the EK Credential Profile.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

impl Area {
    /// An endorsement key by template L-1 or L-2.
    #[must_use]
    pub fn endorsement(key: &KeyPair) -> Self {
        Self::endorsement_of(key.der_bytes())
    }

    /// The same, of an uncompressed point or an RSAPublicKey.
    #[must_use]
    pub fn endorsement_of(public: &[u8]) -> Self {
        Self {
            name_alg: SHA256,
            attributes: 0x0003_00b2,
            policy: hex::decode(POLICY_A).unwrap(),
            symmetric: AES_128_CFB.into(),
            scheme: vec![NULL],
            key: Key::of(public),
        }
    }

    /// An attestation key by our template.
    pub fn attestation(key: &EcdsaKeyPair) -> Self {
        Self {
            name_alg: SHA256,
            attributes: 0x0005_0472,
            policy: vec![],
            symmetric: vec![NULL],
            scheme: vec![ECDSA, SHA256],
            key: Key::of(key.public_key().as_ref()),
        }
    }

    /// A key that signs whatever it is given, by our template.
    pub fn signing(key: &EcdsaKeyPair) -> Self {
        Self {
            attributes: 0x0004_0472,
            ..Self::attestation(key)
        }
    }

    /// TPMT_PUBLIC.
    pub fn marshal(&self) -> Vec<u8> {
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

/// TPMS_ATTEST, not yet marshalled.
#[derive(Clone, Debug)]
pub struct Statement {
    /// TPM_GENERATED_VALUE, if a TPM made it.
    pub magic: u32,
    /// TPMI_ST_ATTEST.
    pub kind: u16,
    /// Qualified Name of the key.
    pub signer: Vec<u8>,
    /// What the caller had signed along.
    pub extra_data: Vec<u8>,
    /// What the TPM says of itself.
    pub said: Said,
    /// TPMU_ATTEST.
    pub attested: Vec<u8>,
}

/// TPMS_CLOCK_INFO and the firmware version.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Milliseconds.
    pub clock: u64,
    /// Resets.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Vendor's firmware version.
    pub firmware_version: u64,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            clock: 9,
            reset_count: 7,
            restart_count: 1,
            firmware_version: 3,
        }
    }
}

impl Statement {
    /// TPMS_ATTEST.
    pub fn marshal(&self) -> Vec<u8> {
        let said = &self.said;
        let clock: [&[u8]; 4] = [
            &said.clock.to_be_bytes(),
            &said.reset_count.to_be_bytes(),
            &said.restart_count.to_be_bytes(),
            &[1],
        ];
        [
            self.magic.to_be_bytes().into(),
            words(&[self.kind]),
            sized(&self.signer),
            sized(&self.extra_data),
            clock.concat(),
            said.firmware_version.to_be_bytes().into(),
            self.attested.clone(),
        ]
        .concat()
    }
}

/// TPMS_QUOTE_INFO over PCRs of banks, as bit masks.
pub fn quoted(banks: &[(u16, u32)], pcr_digest: &[u8]) -> Vec<u8> {
    let count = u32::try_from(banks.len()).unwrap();
    let bank = |(alg, mask): &(u16, u32)| [&words(&[*alg])[..], &[3], &mask.to_le_bytes()[..3]].concat();
    let banks: Vec<u8> = banks.iter().flat_map(bank).collect();
    [&count.to_be_bytes(), &banks[..], &sized(pcr_digest)].concat()
}

/// A new attestation key.
pub fn signing_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

/// TPMT_SIGNATURE over a statement.
pub fn sign(key: &EcdsaKeyPair, statement: &[u8]) -> Vec<u8> {
    let signature = key.sign(&SystemRandom::new(), statement).unwrap();
    let (r, s) = signature.as_ref().split_at(32);
    [words(&[ECDSA, SHA256]), sized(r), sized(s)].concat()
}

/// UINT16s.
pub fn words(words: &[u16]) -> Vec<u8> {
    words.iter().copied().flat_map(u16::to_be_bytes).collect()
}

/// TPM2B.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
