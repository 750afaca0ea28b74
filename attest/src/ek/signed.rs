//! Signatures of CAs over certificates and CRLs.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
        asn1_rs::{Oid, oid},
    },
    signature_algorithm::RsaSsaPssParams,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

/// Checks a signature over a certificate or a CRL; SHA-1 is not accepted.
pub(super) fn verify(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let verification = verification(key, algorithm)?;
    UnparsedPublicKey::new(verification, &key.subject_public_key.data)
        .verify(message, signature)
        .ok()
}

fn verification(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let named = &algorithm.algorithm;
    if *named == OID_PKCS1_RSASSAPSS {
        return pss(algorithm);
    }
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    let table: &[(Oid<'_>, Option<Oid<'_>>, &'static dyn VerificationAlgorithm)] = &[
        (
            OID_PKCS1_SHA256WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA256,
        ),
        (
            OID_PKCS1_SHA384WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA384,
        ),
        (
            OID_PKCS1_SHA512WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_EC_P256),
            &signature::ECDSA_P256_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_EC_P256),
            &signature::ECDSA_P256_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA512,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA512_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA512,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA512_ASN1,
        ),
    ];
    let fits = |(oid, wanted, _): &&(Oid<'_>, Option<Oid<'_>>, _)| {
        oid == named && (wanted.is_none() || *wanted == curve)
    };
    table.iter().find(fits).map(|(_, _, verification)| *verification)
}

const SHA256: Oid<'static> = oid!(2.16.840.1.101.3.4.2.1);
const SHA384: Oid<'static> = oid!(2.16.840.1.101.3.4.2.2);
const SHA512: Oid<'static> = oid!(2.16.840.1.101.3.4.2.3);

/// RSASSA-PSS names its hash in its parameters (RFC 4055 §3.1).
fn pss(algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
    match parameters.hash_algorithm_oid() {
        oid if *oid == SHA256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        oid if *oid == SHA384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        oid if *oid == SHA512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
