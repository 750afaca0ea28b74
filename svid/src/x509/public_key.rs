//! Public keys that an SVID may certify.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rcgen::PublicKeyData;
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
    },
    prelude::FromDer,
    public_key,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use crate::jwt::Algorithm;

/// A public key: EC P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    kind: Kind,
    /// The content of the BIT STRING in SubjectPublicKeyInfo.
    bits: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    EcP256,
    EcP384,
    EcP521,
    Ed25519,
    Rsa,
}

/// What tells a key in a JWK (RFC 7518 §6).
pub(crate) struct JwkMembers {
    pub(crate) kty: &'static str,
    pub(crate) crv: Option<&'static str>,
    /// Names and big-endian values.
    pub(crate) numbers: Vec<(&'static str, Vec<u8>)>,
}

/// Why bytes are no public key that we certify.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a SubjectPublicKeyInfo, or something follows it.
    #[error("public key is not a DER SubjectPublicKeyInfo")]
    Malformed,
    /// The point does not have the length of its curve, or the modulus or the exponent is out of bounds.
    #[error(
        "public key has a size that is not accepted (EC P-256, P-384, P-521; RSA 2048 to 8192 bits, exponent 1 to 64)"
    )]
    Size,
    /// Another algorithm or curve.
    #[error("public key algorithm is not supported (EC P-256, P-384, P-521; Ed25519; RSA)")]
    Unsupported,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    ///
    /// It is malformed, or of a kind or size that we do not certify.
    pub fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Malformed);
        }
        Self::from_parsed(&spki)
    }

    pub(crate) fn from_parsed(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, PublicKeyError> {
        let kind = Kind::of(&spki.algorithm)?;
        let bits: Box<[u8]> = spki.subject_public_key.data.as_ref().into();
        kind.check_size(&bits)?;
        Ok(Self { kind, bits })
    }

    /// From the members of an EC JWK (RFC 7518 §6.2.1); `None` if they are no point of a known curve.
    pub(crate) fn from_point(curve: &str, x: Option<Vec<u8>>, y: Option<Vec<u8>>) -> Option<Self> {
        let kind = match curve {
            "P-256" => Kind::EcP256,
            "P-384" => Kind::EcP384,
            "P-521" => Kind::EcP521,
            _ => return None,
        };
        let bits = [vec![4], x?, y?].concat();
        kind.check_size(&bits).ok()?;
        Some(Self {
            kind,
            bits: bits.into(),
        })
    }

    /// From the members of an RSA JWK (RFC 7518 §6.3.1); `None` if they are missing or out of bounds.
    pub(crate) fn from_modulus(modulus: Option<Vec<u8>>, exponent: Option<Vec<u8>>) -> Option<Self> {
        let numbers = [der_integer(&modulus?)?, der_integer(&exponent?)?].concat();
        let bits = der_element(0x30, &numbers)?;
        Kind::Rsa.check_size(&bits).ok()?;
        Some(Self {
            kind: Kind::Rsa,
            bits: bits.into(),
        })
    }

    /// As DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// Checks a signature that X.509 or PKCS#10 carries, under the algorithm it names.
    pub(crate) fn verify(
        &self,
        algorithm: &AlgorithmIdentifier<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<()> {
        let algorithm = self.kind.verification(algorithm)?;
        UnparsedPublicKey::new(algorithm, &self.bits)
            .verify(message, signature)
            .ok()
    }

    /// What tokens are signed with by such a key; nothing for a kind that JWT-SVIDs do not use.
    pub(crate) fn jws_algorithm(&self) -> Option<Algorithm> {
        match self.kind {
            Kind::EcP256 => Some(Algorithm::Es256),
            Kind::EcP384 => Some(Algorithm::Es384),
            Kind::EcP521 => Some(Algorithm::Es512),
            Kind::Ed25519 => None,
            Kind::Rsa => Some(Algorithm::Rs256),
        }
    }

    /// Checks a signature that a token carries (RFC 7518 §3.3 to §3.5).
    pub(crate) fn verify_jws(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<()> {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (Kind::EcP256, Algorithm::Es256) => &signature::ECDSA_P256_SHA256_FIXED,
            (Kind::EcP384, Algorithm::Es384) => &signature::ECDSA_P384_SHA384_FIXED,
            (Kind::EcP521, Algorithm::Es512) => &signature::ECDSA_P521_SHA512_FIXED,
            (Kind::Rsa, Algorithm::Ps256) => &signature::RSA_PSS_2048_8192_SHA256,
            (Kind::Rsa, Algorithm::Ps384) => &signature::RSA_PSS_2048_8192_SHA384,
            (Kind::Rsa, Algorithm::Ps512) => &signature::RSA_PSS_2048_8192_SHA512,
            (Kind::Rsa, Algorithm::Rs256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, Algorithm::Rs384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, Algorithm::Rs512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            _ => return None,
        };
        UnparsedPublicKey::new(algorithm, &self.bits)
            .verify(message, signature)
            .ok()
    }

    pub(crate) fn to_jwk(&self) -> Option<JwkMembers> {
        match self.kind {
            Kind::EcP256 => self.point("P-256"),
            Kind::EcP384 => self.point("P-384"),
            Kind::EcP521 => self.point("P-521"),
            Kind::Ed25519 => Some(JwkMembers {
                kty: "OKP",
                crv: Some("Ed25519"),
                numbers: vec![("x", self.bits.to_vec())],
            }),
            Kind::Rsa => {
                let (_, key) = public_key::RSAPublicKey::from_der(&self.bits).ok()?;
                let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
                let numbers = vec![("n", number(key.modulus)), ("e", number(key.exponent))];
                Some(JwkMembers {
                    kty: "RSA",
                    crv: None,
                    numbers,
                })
            }
        }
    }

    fn point(&self, curve: &'static str) -> Option<JwkMembers> {
        let coordinates = self.bits.get(1..)?;
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
        let numbers = vec![("x", x.to_vec()), ("y", y.to_vec())];
        Some(JwkMembers {
            kty: "EC",
            crv: Some(curve),
            numbers,
        })
    }
}

impl Kind {
    fn of(algorithm: &AlgorithmIdentifier<'_>) -> Result<Self, PublicKeyError> {
        let oid = &algorithm.algorithm;
        if *oid == OID_PKCS1_RSAENCRYPTION {
            return Ok(Self::Rsa);
        }
        if *oid == OID_SIG_ED25519 {
            return Ok(Self::Ed25519);
        }
        if *oid != OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Err(PublicKeyError::Unsupported);
        }
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok());
        match curve.ok_or(PublicKeyError::Unsupported)? {
            curve if curve == OID_EC_P256 => Ok(Self::EcP256),
            curve if curve == OID_NIST_EC_P384 => Ok(Self::EcP384),
            curve if curve == OID_NIST_EC_P521 => Ok(Self::EcP521),
            _ => Err(PublicKeyError::Unsupported),
        }
    }

    fn check_size(self, bits: &[u8]) -> Result<(), PublicKeyError> {
        let uncompressed = |coordinate: usize| bits.len() == 1 + 2 * coordinate && bits.first() == Some(&4);
        let accepted = match self {
            Self::EcP256 => uncompressed(32),
            Self::EcP384 => uncompressed(48),
            Self::EcP521 => uncompressed(66),
            Self::Ed25519 => bits.len() == 32,
            Self::Rsa => {
                let (_, key) =
                    public_key::RSAPublicKey::from_der(bits).map_err(|_| PublicKeyError::Malformed)?;
                let length = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).count();
                // No library verifies with an exponent beyond 64 bits, and without one nothing is verified at all.
                (256..=1024).contains(&length(key.modulus)) && (1..=8).contains(&length(key.exponent))
            }
        };
        if accepted {
            Ok(())
        } else {
            Err(PublicKeyError::Size)
        }
    }

    fn verification(self, algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static dyn VerificationAlgorithm> {
        let oid = &algorithm.algorithm;
        let table: &[(_, &'static dyn VerificationAlgorithm)] = match self {
            Self::EcP256 => &[
                (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P256_SHA256_ASN1),
                (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P256_SHA384_ASN1),
            ],
            Self::EcP384 => &[
                (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P384_SHA256_ASN1),
                (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P384_SHA384_ASN1),
            ],
            Self::EcP521 => &[
                (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P521_SHA256_ASN1),
                (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P521_SHA384_ASN1),
                (OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P521_SHA512_ASN1),
            ],
            Self::Ed25519 => &[(OID_SIG_ED25519, &signature::ED25519)],
            Self::Rsa => &[
                (OID_PKCS1_SHA256WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA256),
                (OID_PKCS1_SHA384WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA384),
                (OID_PKCS1_SHA512WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA512),
            ],
        };
        table
            .iter()
            .find(|(named, _)| named == oid)
            .map(|(_, verification)| *verification)
    }
}

/// A positive INTEGER of big-endian bytes.
fn der_integer(number: &[u8]) -> Option<Vec<u8>> {
    let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign = if significant.first()? & 0x80 == 0 {
        &[][..]
    } else {
        &[0]
    };
    der_element(2, &[sign, &significant].concat())
}

/// Tag, definite length and content; up to 65,535 bytes.
fn der_element(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let [high, low] = length.to_be_bytes();
    let header = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    Some([&header, content].concat())
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.kind {
            Kind::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Kind::EcP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Kind::Ed25519 => &rcgen::PKCS_ED25519,
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let algorithms = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        for algorithm in algorithms {
            let spki = rcgen::KeyPair::generate_for(algorithm)
                .unwrap()
                .subject_public_key_info();
            assert_eq!(
                PublicKey::from_spki(&spki).unwrap().to_spki(),
                spki,
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn an_rsa_key_has_an_exponent() {
        let with = |exponent: &[u8]| PublicKey::from_modulus(Some(vec![0x80; 256]), Some(exponent.into()));
        assert!(with(&[1, 0, 1]).is_some());
        assert_eq!(with(&[0]), None);
        assert_eq!(with(&[1; 9]), None);
    }

    #[test]
    fn refuses_what_it_does_not_certify() {
        let spki = rcgen::KeyPair::generate().unwrap().subject_public_key_info();
        let trailing = [&spki[..], &[0]].concat();
        assert_eq!(PublicKey::from_spki(&trailing), Err(PublicKeyError::Malformed));
        assert_eq!(PublicKey::from_spki(&spki[..20]), Err(PublicKeyError::Malformed));
        // The same point, said to lie on secp256k1.
        let mut other_curve = spki;
        let curve = other_curve
            .windows(8)
            .position(|w| w == [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])
            .unwrap();
        other_curve[curve + 7] = 6;
        assert_eq!(
            PublicKey::from_spki(&other_curve),
            Err(PublicKeyError::Unsupported)
        );
    }

    #[test]
    fn refuses_a_small_rsa_key() {
        // SubjectPublicKeyInfo of an RSA key with a 1024-bit modulus of all ones.
        let modulus = [&[0x02, 0x81, 0x81, 0x00][..], &[0xff; 128]].concat();
        let key = [&[0x30, 0x81, 0x89][..], &modulus, &[0x02, 3, 1, 0, 1]].concat();
        let bits = [&[0x03, 0x81, 0x8d, 0x00][..], &key].concat();
        let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let spki = [&[0x30, 0x81, 0x9f][..], &algorithm, &bits].concat();
        assert_eq!(PublicKey::from_spki(&spki), Err(PublicKeyError::Size));
    }
}
