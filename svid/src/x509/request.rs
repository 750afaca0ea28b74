//! Requests for a certificate (PKCS#10, RFC 2986).

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use super::{PublicKey, PublicKeyError};

/// A certificate request whose signature verified: whoever made it holds the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateRequest {
    /// The key to certify.
    pub public_key: PublicKey,
    /// URI subject alternative names, unparsed.
    pub uris: Vec<String>,
    /// DNS subject alternative names, unparsed.
    pub dns_names: Vec<String>,
    /// Common name of the subject.
    pub common_name: Option<String>,
}

/// Why bytes are no acceptable request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The signature is not by the key in the request, or of an unsupported algorithm.
    #[error("CSR signature does not verify")]
    BadSignature,
    /// Not PKCS#10 in DER, or something follows it.
    #[error("CSR is not PKCS#10 in DER")]
    Malformed,
    /// The key in it is not one that we certify.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// Longer than any request for a key that we certify.
    #[error("CSR is longer than {max} bytes", max = CertificateRequest::MAX_LEN)]
    TooLong,
}

impl CertificateRequest {
    /// Longest request in bytes.
    pub const MAX_LEN: usize = 16 * 1024;

    /// Parses a request and verifies its signature.
    ///
    /// # Errors
    ///
    /// It is malformed, of an unsupported key, or not signed by that key.
    pub fn verify(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > Self::MAX_LEN {
            return Err(RequestError::TooLong);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        let info = &request.certification_request_info;
        let public_key = PublicKey::from_parsed(&info.subject_pki)?;
        public_key
            .verify(
                &request.signature_algorithm,
                info.raw,
                &request.signature_value.data,
            )
            .ok_or(RequestError::BadSignature)?;
        let (uris, dns_names) = alternative_names(&request);
        let common_name = info
            .subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        Ok(Self {
            public_key,
            uris,
            dns_names,
            common_name: common_name.map(Into::into),
        })
    }
}

fn alternative_names(request: &X509CertificationRequest<'_>) -> (Vec<String>, Vec<String>) {
    let mut uris = Vec::new();
    let mut dns_names = Vec::new();
    let extensions = request.requested_extensions().into_iter().flatten();
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).into()),
                GeneralName::DNSName(name) => dns_names.push((*name).into()),
                _ => {}
            }
        }
    }
    (uris, dns_names)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example.org/db".try_into().unwrap()),
            SanType::DnsName("db.example.org".try_into().unwrap()),
        ];
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn reads_names_and_key() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let parsed = CertificateRequest::verify(&request(algorithm)).unwrap();
            assert_eq!(parsed.uris, ["spiffe://example.org/db"]);
            assert_eq!(parsed.dns_names, ["db.example.org"]);
        }
    }

    /// The outer DER headers are not signed, and the parser lets some bits of them pass.
    #[test]
    fn no_flipped_bit_changes_what_is_certified() {
        let good = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let original = CertificateRequest::verify(&good).unwrap();
        let mut refused = 0;
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            match CertificateRequest::verify(&bad) {
                Ok(parsed) => assert_eq!(parsed, original, "bit {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(
            refused > good.len() * 8 - 24,
            "{refused} of {} refused",
            good.len() * 8
        );
    }

    #[test]
    fn refuses_a_request_signed_by_another_key() {
        let ours = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let theirs = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        // Both signatures end the request; swap the last 16 bytes of ours for theirs.
        let mixed = [&ours[..ours.len() - 16], &theirs[theirs.len() - 16..]].concat();
        assert_eq!(
            CertificateRequest::verify(&mixed),
            Err(RequestError::BadSignature)
        );
    }

    #[test]
    fn refuses_trailing_bytes_and_excess() {
        let mut long = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        long.push(0);
        assert_eq!(CertificateRequest::verify(&long), Err(RequestError::Malformed));
        let excess = vec![0; CertificateRequest::MAX_LEN + 1];
        assert_eq!(CertificateRequest::verify(&excess), Err(RequestError::TooLong));
    }
}
