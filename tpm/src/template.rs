//! The templates that keys are made from, as TPMT_PUBLIC (Part 2 §12.2.4).

use std::iter;

use attest::{Digest, HashAlg};
use svid::TrustDomain;
use tss_esapi::{
    Error,
    structures::{EccParameter, EccPoint, Public},
    traits::{Marshall, UnMarshall},
};

/// An endorsement key of TCG's EK Credential Profile (v2.6, §B.3 and §B.4), and where it is kept.
#[derive(Debug)]
pub(crate) struct EkTemplate {
    /// Its name in the profile.
    pub(crate) name: &'static str,
    /// NV index of its certificate.
    pub(crate) certificate: u32,
    /// NV indices of a nonce and of a template that replace the profile's, where the vendor may set them.
    pub(crate) nonce_and_template: Option<(u32, u32)>,
    /// Persistent handle that it usually has.
    pub(crate) handle: u32,
    /// What goes into `unique`: zeros of this length, once for RSA, twice for a point.
    unique_len: usize,
    key: Key,
    range: Range,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Key {
    P256,
    P384,
    Rsa2048,
}

/// Which authorizations a template takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Range {
    /// The endorsement hierarchy's.
    Low,
    /// That, a policy in NV memory, or the empty password.
    High,
}

/// The strongest first.
pub(crate) const EK_TEMPLATES: [EkTemplate; 5] = [H3, H2, L2, H1, L1];
/// What lists of EK hashes hold, and then what is quick to make: for TPMs without any certificate.
pub(crate) const DEFAULT_EK_TEMPLATES: [EkTemplate; 2] = [L1, L2];

const L1: EkTemplate = EkTemplate {
    name: "L-1",
    certificate: 0x01C0_0002,
    nonce_and_template: Some((0x01C0_0003, 0x01C0_0004)),
    handle: 0x8101_0001,
    unique_len: 256,
    key: Key::Rsa2048,
    range: Range::Low,
};
const L2: EkTemplate = EkTemplate {
    name: "L-2",
    certificate: 0x01C0_000A,
    nonce_and_template: Some((0x01C0_000B, 0x01C0_000C)),
    handle: 0x8101_0002,
    unique_len: 32,
    key: Key::P256,
    range: Range::Low,
};
const H1: EkTemplate = EkTemplate {
    name: "H-1",
    certificate: 0x01C0_0012,
    nonce_and_template: None,
    handle: 0x8101_0012,
    unique_len: 0,
    key: Key::Rsa2048,
    range: Range::High,
};
const H2: EkTemplate = EkTemplate {
    name: "H-2",
    certificate: 0x01C0_0014,
    nonce_and_template: None,
    handle: 0x8101_0014,
    unique_len: 0,
    key: Key::P256,
    range: Range::High,
};
const H3: EkTemplate = EkTemplate {
    name: "H-3",
    certificate: 0x01C0_0016,
    nonce_and_template: None,
    handle: 0x8101_0016,
    unique_len: 0,
    key: Key::P384,
    range: Range::High,
};

impl EkTemplate {
    /// The hash of its Name, and of the policy sessions that use it.
    pub(crate) const fn name_alg(&self) -> HashAlg {
        match self.key {
            Key::P256 | Key::Rsa2048 => HashAlg::Sha256,
            Key::P384 => HashAlg::Sha384,
        }
    }

    /// Whether generating it takes seconds.
    pub(crate) const fn is_slow(&self) -> bool {
        matches!(self.key, Key::Rsa2048)
    }

    /// Whether lists of EK hashes hold keys of this template: most tools know no other.
    pub(crate) const fn is_listed(&self) -> bool {
        matches!((self.key, self.range), (Key::Rsa2048, Range::Low))
    }

    /// For keys of the high range, the policies of which TPM2_PolicyOR wants to see one met.
    pub(crate) fn policy_branches(&self) -> Option<[Digest; 2]> {
        (self.range == Range::High).then(|| branches(self.name_alg()))
    }

    /// TPMT_PUBLIC to make it from; `nonce` replaces the beginning of `unique`.
    pub(crate) fn public(&self, nonce: &[u8]) -> Vec<u8> {
        let unique = overlay(nonce, &[], self.unique_len);
        let second = match self.key {
            Key::P256 | Key::P384 => sized(&vec![0; self.unique_len]),
            Key::Rsa2048 => Vec::new(),
        };
        [self.head(), sized(&unique), second].concat()
    }

    /// What all keys of the template begin with: TPMT_PUBLIC up to `unique`.
    pub(crate) fn head(&self) -> Vec<u8> {
        let (kind, key_bits, parameters) = match self.key {
            Key::P256 => (ECC, 128, words(&[CURVE_P256, NULL])),
            Key::P384 => (ECC, 256, words(&[CURVE_P384, NULL])),
            Key::Rsa2048 => (RSA, 128, words(&[2048, 0, 0])),
        };
        let (attributes, policy) = match self.range {
            Range::Low => (EK_ATTRIBUTES, policy_secret(self.name_alg())),
            Range::High => (EK_ATTRIBUTES | USER_WITH_AUTH, policy_or(self.name_alg())),
        };
        [
            head(kind, self.name_alg(), attributes, policy.as_bytes()),
            words(&[AES, key_bits, CFB, NULL]),
            parameters,
        ]
        .concat()
    }
}

/// TPMT_PUBLIC to make the attestation key of a trust domain from: another trust domain, another key.
pub(crate) fn attestation_key(trust_domain: &TrustDomain) -> Vec<u8> {
    let unique = HashAlg::Sha256.digest(&[b"plastron/ak/v1", &[0], trust_domain.as_str().as_bytes()]);
    [
        head(ECC, HashAlg::Sha256, AK_ATTRIBUTES, &[]),
        words(&[NULL, ECDSA, HashAlg::Sha256.to_tpm(), CURVE_P256, NULL]),
        sized(unique.as_bytes()),
        sized(&[0; 32]),
    ]
    .concat()
}

/// TPMT_PUBLIC to make a key from that signs whatever it is given: another one for each `unique`.
pub(crate) fn signing_key(unique: &[u8]) -> Vec<u8> {
    [
        head(ECC, HashAlg::Sha256, SIGNING_ATTRIBUTES, &[]),
        words(&[NULL, ECDSA, HashAlg::Sha256.to_tpm(), CURVE_P256, NULL]),
        sized(&overlay(unique, &[], 32)),
        sized(&[0; 32]),
    ]
    .concat()
}

/// TPMT_PUBLIC of the storage key that TCG's Provisioning Guidance has for P-256 (§7.5.1).
pub(crate) fn storage_key() -> Vec<u8> {
    [
        head(ECC, HashAlg::Sha256, STORAGE_ATTRIBUTES, &[]),
        words(&[AES, 128, CFB, NULL, CURVE_P256, NULL]),
        sized(&[0; 32]),
        sized(&[0; 32]),
    ]
    .concat()
}

/// TPMT_PUBLIC of what is sealed under a policy.
pub(crate) fn sealed(policy: &[u8]) -> Vec<u8> {
    let head = head(KEYED_HASH, HashAlg::Sha256, SEALED_ATTRIBUTES, policy);
    [head, words(&[NULL]), sized(&[])].concat()
}

/// Puts a vendor's nonce at the beginning of `unique` in the vendor's own TPMT_PUBLIC.
pub(crate) fn with_nonce(template: &[u8], nonce: &[u8]) -> Result<Vec<u8>, Error> {
    let mut public = Public::unmarshall(template)?;
    match &mut public {
        _ if nonce.is_empty() => {}
        Public::Ecc { unique, .. } => {
            let y = EccParameter::try_from(overlay(&[], unique.y().value(), L2.unique_len))?;
            *unique = EccPoint::new(overlay(nonce, unique.x().value(), L2.unique_len).try_into()?, y);
        }
        Public::Rsa { unique, .. } => *unique = overlay(nonce, unique.value(), L1.unique_len).try_into()?,
        Public::KeyedHash { .. } | Public::SymCipher { .. } => {}
    }
    public.marshall()
}

/// `nonce` over the beginning of `unique`, with zeros up to `len`.
fn overlay(nonce: &[u8], unique: &[u8], len: usize) -> Vec<u8> {
    let rest = unique.iter().skip(nonce.len());
    let bytes = nonce.iter().chain(rest).copied();
    bytes.chain(iter::repeat(0)).take(len).collect()
}

fn head(kind: u16, name_alg: HashAlg, attributes: u32, policy: &[u8]) -> Vec<u8> {
    [
        &words(&[kind, name_alg.to_tpm()]),
        &attributes.to_be_bytes()[..],
        &sized(policy),
    ]
    .concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().copied().flat_map(u16::to_be_bytes).collect()
}

/// A TPM2B. Nothing here is longer than a modulus.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), bytes].concat()
}

/// PolicyA: TPM2_PolicySecret(TPM_RH_ENDORSEMENT) with an empty reference (Part 3 §23.4).
fn policy_secret(hash: HashAlg) -> Digest {
    let zeros = Digest::filled(0, hash);
    let entity = hash.digest(&[zeros.as_bytes(), &CC_POLICY_SECRET, &RH_ENDORSEMENT]);
    hash.digest(&[entity.as_bytes()])
}

/// PolicyB: TPM2_PolicyOR over both branches (Part 3 §23.6).
fn policy_or(hash: HashAlg) -> Digest {
    let zeros = Digest::filled(0, hash);
    let [secret, authorize_nv] = branches(hash);
    hash.digest(&[
        zeros.as_bytes(),
        &CC_POLICY_OR,
        secret.as_bytes(),
        authorize_nv.as_bytes(),
    ])
}

/// PolicyA and PolicyC; the profile lists the latter (§B.6.5) for its NV indices 0x01C07F01 and following.
fn branches(hash: HashAlg) -> [Digest; 2] {
    let policy_c: &[u8] = match hash {
        HashAlg::Sha384 => &POLICY_C_SHA384,
        _ => &POLICY_C_SHA256,
    };
    [policy_secret(hash), policy_c.iter().copied().collect()]
}

const RSA: u16 = 0x0001;
const AES: u16 = 0x0006;
const KEYED_HASH: u16 = 0x0008;
const NULL: u16 = 0x0010;
const ECDSA: u16 = 0x0018;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// The same, but restricted.
const SIGNING_ATTRIBUTES: u32 = 0x0004_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const EK_ATTRIBUTES: u32 = 0x0003_00B2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, adminWithPolicy, noDA: its policy alone gives it out.
const SEALED_ATTRIBUTES: u32 = 0x0000_0492;
const USER_WITH_AUTH: u32 = 0x0000_0040;

const CC_POLICY_SECRET: [u8; 4] = 0x0000_0151_u32.to_be_bytes();
const CC_POLICY_OR: [u8; 4] = 0x0000_0171_u32.to_be_bytes();
const RH_ENDORSEMENT: [u8; 4] = 0x4000_000B_u32.to_be_bytes();

const POLICY_C_SHA256: [u8; 32] = [
    0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64, 0x3d,
    0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde,
];
const POLICY_C_SHA384: [u8; 48] = [
    0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37, 0xef, 0x2b,
    0x6a, 0x16, 0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21, 0x7a, 0xd5, 0xb4, 0x94,
    0x7c, 0x2d, 0x73, 0xe6, 0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_policies_that_the_profile_lists() {
        let check = |policy: Digest, expected: &str| assert_eq!(policy.to_string(), expected);
        check(
            policy_secret(HashAlg::Sha256),
            "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
        );
        check(
            policy_or(HashAlg::Sha256),
            "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0",
        );
        check(
            policy_or(HashAlg::Sha384),
            "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca\
             cb47ba09699646150f9fc000f3f80e12",
        );
    }
}
