//! Quotes of other systems, for whoever judges them without a server: any nonce, and attestation keys that others made.
//!
//! What is proven here is a type of its own, with which no host attests: [`VerifiedQuote`](crate::VerifiedQuote) is about
//! one connection and by a key of ours.

use aws_lc_rs::{
    constant_time,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
        RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use x509_parser::{prelude::FromDer, public_key::PublicKey as SpkiKey, x509::SubjectPublicKeyInfo};

use crate::{
    HashAlg, Name, Part, PcrSelection, PcrValues, Reject,
    ak::{DECRYPT, ESSENTIAL},
    event_log::{self, EventLog},
    wire::{Attest, Attested, ClockInfo, Curve, Public, PublicKey, Scheme, Signature, WireError},
};

/// An attestation key that somebody else made.
#[derive(Clone, Debug)]
pub struct CapturedKey {
    key: Key,
    scheme: Scheme,
    public: Option<Public>,
}

#[derive(Clone, Debug)]
enum Key {
    /// An uncompressed point.
    Ecc(Curve, Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

/// A quote as it was captured.
#[derive(Clone, Debug)]
pub struct CapturedQuote {
    statement: Vec<u8>,
    attest: Attest,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
    signature: Vec<u8>,
}

/// What a captured key signed, about a nonce. Only [`CapturedQuote::verify`] makes one.
#[derive(Clone, Debug)]
pub struct SignedQuote {
    /// Clock and reset counts.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
    /// Whether the key is a primary of the endorsement hierarchy; unknown if only the key itself is. In any other
    /// hierarchy the TPM obfuscates clock, counts and firmware version (30, 44).
    pub is_endorsed: Option<bool>,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
    hash: HashAlg,
}

impl CapturedKey {
    /// Reads a TPM2B_PUBLIC, a TPMT_PUBLIC, or a SubjectPublicKeyInfo in DER, and checks that the TPM signs nothing with
    /// it that is not its own (17, 19). Of the latter the attributes are not known, and so not checked.
    ///
    /// # Errors
    ///
    /// [`Reject::Malformed`], [`Reject::AkAttributes`] or [`Reject::AkNameHash`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let area = unsized_area(bytes);
        match Public::parse(area) {
            Ok(public) => Self::of(public),
            Err(error) => Self::of_spki(bytes).ok_or(Reject::Malformed(Part::AttestationKey, error)),
        }
    }

    fn of(public: Public) -> Result<Self, Reject> {
        if public.attributes & (ESSENTIAL | DECRYPT) != ESSENTIAL {
            return Err(Reject::AkAttributes);
        }
        if public.name_alg == HashAlg::Sha1 {
            return Err(Reject::AkNameHash);
        }
        let (key, scheme) = match &public.key {
            PublicKey::Ecc(key) => (Key::Ecc(key.curve, [&[4], &*key.x, &*key.y].concat()), key.scheme),
            PublicKey::Rsa(key) => (
                Key::Rsa {
                    modulus: key.modulus.to_vec(),
                    exponent: trimmed(&key.exponent.to_be_bytes()),
                },
                key.scheme,
            ),
        };
        Ok(Self {
            key,
            scheme,
            public: Some(public),
        })
    }

    fn of_spki(der: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let key = match info.parsed().ok()? {
            SpkiKey::RSA(key) => Key::Rsa {
                modulus: trimmed(key.modulus),
                exponent: trimmed(key.exponent),
            },
            SpkiKey::EC(point) => {
                let curves = [Curve::P256, Curve::P384, Curve::P521];
                let len = point.data().len();
                let curve = curves
                    .into_iter()
                    .find(|curve| len == 1 + 2 * curve.coordinate_len())?;
                Key::Ecc(curve, point.data().to_vec())
            }
            _ => return None,
        };
        Some(Self {
            key,
            scheme: Scheme::Null,
            public: None,
        })
    }

    /// Its Name, if its attributes are known.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.public.as_ref().map(Public::name)
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.key {
            Key::Ecc(Curve::P256, _) => "ECC P-256",
            Key::Ecc(Curve::P384, _) => "ECC P-384",
            Key::Ecc(Curve::P521, _) => "ECC P-521",
            Key::Rsa { .. } => "RSA",
        }
    }
}

impl CapturedQuote {
    /// Reads a TPMS_ATTEST, with or without its size, and the signature that came with it: a TPMT_SIGNATURE, or what
    /// tpm2-tools call plain, which is DER for ECDSA and the bare number for RSA (28, 29).
    ///
    /// # Errors
    ///
    /// The statement is malformed, the TPM did not make it, or it is no quote.
    pub fn parse(statement: &[u8], signature: &[u8]) -> Result<Self, Reject> {
        let statement = unsized_area(statement);
        let attest = Attest::parse(statement).map_err(|error| Reject::Malformed(Part::Statement, error))?;
        if attest.magic != Attest::MAGIC {
            return Err(Reject::AttestMagic);
        }
        let Attested::Quote {
            selection,
            pcr_digest,
        } = attest.attested.clone()
        else {
            return Err(Reject::AttestType);
        };
        Ok(Self {
            statement: statement.into(),
            attest,
            selection,
            pcr_digest,
            signature: signature.into(),
        })
    }

    /// Verifies it: about exactly this nonce, and signed by `key` (23, 24, 31).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(self, key: &CapturedKey, nonce: &[u8]) -> Result<SignedQuote, Reject> {
        constant_time::verify_slices_are_equal(&self.attest.extra_data, nonce)
            .map_err(|_| Reject::ExtraData)?;
        let hash = match Signature::parse(&self.signature) {
            Ok(signature) => key.verify_marshalled(&self.statement, &signature)?,
            Err(error) => key.verify_plain(&self.statement, &self.signature, error)?,
        };
        let endorsed = key.name().and_then(|name| name.qualified_under_endorsement());
        Ok(SignedQuote {
            clock: self.attest.clock,
            firmware_version: self.attest.firmware_version,
            is_endorsed: endorsed.map(|signer| *signer.as_bytes() == *self.attest.qualified_signer),
            selection: self.selection,
            pcr_digest: self.pcr_digest,
            hash,
        })
    }
}

impl CapturedKey {
    /// Gives the hash that was signed with.
    fn verify_marshalled(&self, statement: &[u8], signature: &Signature) -> Result<HashAlg, Reject> {
        let (scheme, hash) = match signature {
            Signature::Ecdsa { hash, .. } => (Scheme::Ecdsa(*hash), *hash),
            Signature::RsaPss { hash, .. } => (Scheme::RsaPss(*hash), *hash),
            Signature::RsaSsa { hash, .. } => (Scheme::RsaSsa(*hash), *hash),
        };
        if self.scheme != Scheme::Null && self.scheme != scheme {
            return Err(Reject::SignatureScheme);
        }
        match (signature, &self.key) {
            (Signature::Ecdsa { r, s, .. }, Key::Ecc(curve, point)) => {
                let alg: &'static dyn VerificationAlgorithm = match (curve, hash) {
                    (Curve::P256, HashAlg::Sha256) => &ECDSA_P256_SHA256_FIXED,
                    (Curve::P384, HashAlg::Sha384) => &ECDSA_P384_SHA384_FIXED,
                    _ => return Err(Reject::SignatureScheme),
                };
                let signature = [fixed(r, *curve)?, fixed(s, *curve)?].concat();
                check(alg, point, statement, &signature)?;
            }
            (
                Signature::RsaPss { signature, .. } | Signature::RsaSsa { signature, .. },
                Key::Rsa { modulus, exponent },
            ) => {
                let alg = rsa(scheme).ok_or(Reject::SignatureScheme)?;
                check_rsa(alg, modulus, exponent, statement, signature)?;
            }
            _ => return Err(Reject::SignatureScheme),
        }
        Ok(hash)
    }

    /// A signature without its scheme: that of the key, or the two that keys without one use.
    fn verify_plain(&self, statement: &[u8], signature: &[u8], error: WireError) -> Result<HashAlg, Reject> {
        match &self.key {
            Key::Ecc(curve, point) => {
                let (alg, hash): (&'static dyn VerificationAlgorithm, _) = match curve {
                    Curve::P256 => (&ECDSA_P256_SHA256_ASN1, HashAlg::Sha256),
                    Curve::P384 => (&ECDSA_P384_SHA384_ASN1, HashAlg::Sha384),
                    Curve::P521 => return Err(Reject::SignatureScheme),
                };
                check(alg, point, statement, signature)?;
                Ok(hash)
            }
            Key::Rsa { modulus, exponent } if signature.len() == modulus.len() => {
                let schemes = match self.scheme {
                    Scheme::Null => vec![Scheme::RsaSsa(HashAlg::Sha256), Scheme::RsaPss(HashAlg::Sha256)],
                    scheme => vec![scheme],
                };
                let algs: Vec<_> = schemes.into_iter().filter_map(rsa).collect();
                if algs.is_empty() {
                    return Err(Reject::SignatureScheme);
                }
                let mut outcomes = algs
                    .iter()
                    .map(|alg| check_rsa(alg, modulus, exponent, statement, signature));
                if outcomes.any(|outcome| outcome.is_ok()) {
                    Ok(self.hash())
                } else {
                    Err(Reject::SignatureInvalid)
                }
            }
            Key::Rsa { .. } => Err(Reject::Malformed(Part::Signature, error)),
        }
    }

    const fn hash(&self) -> HashAlg {
        match self.scheme {
            Scheme::Ecdsa(hash) | Scheme::RsaPss(hash) | Scheme::RsaSsa(hash) => hash,
            Scheme::Null => HashAlg::Sha256,
        }
    }
}

impl SignedQuote {
    /// Which PCRs it covers.
    #[must_use]
    pub const fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// The values that `log` explains, if they are what was signed (34, 36, 37, 46). `claimed` serves to name the PCR
    /// that is not explained.
    ///
    /// # Errors
    ///
    /// As [`event_log::explain`]; [`Reject::PcrBank`] if only SHA-1 was quoted.
    pub fn explain(&self, log: &EventLog, claimed: Option<&PcrValues>) -> Result<PcrValues, Reject> {
        self.check_banks()?;
        event_log::explain(&self.selection, &self.pcr_digest, self.hash, claimed, log)
    }

    /// Checks that it signs `values`.
    ///
    /// # Errors
    ///
    /// [`Reject::PcrDigest`] if it signs others; [`Reject::PcrBank`] if only SHA-1 was quoted.
    pub fn matches(&self, values: &PcrValues) -> Result<PcrValues, Reject> {
        self.check_banks()?;
        if values.digest(&self.selection, self.hash).as_bytes() == &*self.pcr_digest {
            Ok(values.select(&self.selection))
        } else {
            Err(Reject::PcrDigest)
        }
    }

    /// The digest over the PCRs, and the hash that it was made with.
    #[must_use]
    pub fn pcr_digest(&self) -> (&[u8], HashAlg) {
        (&self.pcr_digest, self.hash)
    }

    fn check_banks(&self) -> Result<(), Reject> {
        if self.selection.is_empty() {
            return Err(Reject::PcrSelection);
        }
        if self.selection.banks().all(|(alg, _)| alg == HashAlg::Sha1) {
            return Err(Reject::PcrBank(HashAlg::Sha1));
        }
        Ok(())
    }
}

/// What stands behind a size, if that is the size of all the rest.
fn unsized_area(bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk() {
        Some((size, rest)) if usize::from(u16::from_be_bytes(*size)) == rest.len() => rest,
        _ => bytes,
    }
}

fn trimmed(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Half a signature as long as the curve's field: some TPMs leave leading zeros out.
fn fixed(half: &[u8], curve: Curve) -> Result<Vec<u8>, Reject> {
    let padding = curve
        .coordinate_len()
        .checked_sub(half.len())
        .ok_or(Reject::SignatureInvalid)?;
    Ok(std::iter::repeat_n(0, padding)
        .chain(half.iter().copied())
        .collect())
}

/// SHA-1 is no hash to sign with.
const fn rsa(scheme: Scheme) -> Option<&'static RsaParameters> {
    match scheme {
        Scheme::RsaPss(HashAlg::Sha256) => Some(&RSA_PSS_2048_8192_SHA256),
        Scheme::RsaPss(HashAlg::Sha384) => Some(&RSA_PSS_2048_8192_SHA384),
        Scheme::RsaPss(HashAlg::Sha512) => Some(&RSA_PSS_2048_8192_SHA512),
        Scheme::RsaSsa(HashAlg::Sha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
        Scheme::RsaSsa(HashAlg::Sha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
        Scheme::RsaSsa(HashAlg::Sha512) => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

fn check(
    alg: &'static dyn VerificationAlgorithm,
    key: &[u8],
    statement: &[u8],
    signature: &[u8],
) -> Result<(), Reject> {
    UnparsedPublicKey::new(alg, key)
        .verify(statement, signature)
        .map_err(|_| Reject::SignatureInvalid)
}

fn check_rsa(
    alg: &'static RsaParameters,
    modulus: &[u8],
    exponent: &[u8],
    statement: &[u8],
    signature: &[u8],
) -> Result<(), Reject> {
    let key = RsaPublicKeyComponents {
        n: modulus,
        e: exponent,
    };
    key.verify(alg, statement, signature)
        .map_err(|_| Reject::SignatureInvalid)
}
