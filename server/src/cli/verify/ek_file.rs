//! Endorsement certificates in the forms in which vendors' services and tools hand them out.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use serde::Deserialize;

/// What the vendor's service for TPMs without a certificate in them answers, and older versions of `tpm2_getekcertificate`
/// kept as it was.
#[derive(Deserialize)]
struct Answer {
    certificate: String,
}

/// The certificate of a service's answer, or of base64 or base64url alone; nothing of anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    // All letters of PEM's are of base64url.
    if text.contains("-----BEGIN ") {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(Answer { certificate }) => base64(&certificate),
        Err(_) => base64(text),
    }
}

/// Either alphabet, with padding or without; services escape padding as in a URL.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.replace("%3D", "=").replace('-', "+").replace('_', "/");
    let digits: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    BASE64_STANDARD_NO_PAD.decode(digits.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_in_several_forms() {
        // In base64: `MAP7/w==`.
        let der = vec![0x30, 0x03, 0xfb, 0xff];
        for text in [
            "MAP7/w==",
            "MAP7_w==",
            "MAP7_w",
            " MAP7\r\n/w==\n",
            "MAP7_w%3D%3D",
            r#"{"pubhash":"0011","certificate":"MAP7_w%3D%3D"}"#,
            "{\"certificate\": \"MAP7/w==\"}\n",
        ] {
            assert_eq!(decode(text.as_bytes()), Some(der.clone()), "{text}");
        }
        for other in [
            &der[..],
            b"{}",
            b"MAP7/w==!",
            b"{\"certificate\": 1}",
            b"-----BEGIN X-----",
        ] {
            assert_eq!(decode(other), None);
        }
    }
}
