//! Whether the key of the certificate request is in the host's TPM (25, 26).

use attest::{Binding, CertifiedKey, EvidenceKind, Reject, VerifiedAk};
use svid::x509::CertificateRequest;

use super::{Rules, subject::Subject};
use crate::{NO_NONCE, wire::OfferedKey};

impl Rules {
    /// Checks what the host says of the key. A wrong word is refused, even where none is needed; it is not the boot that
    /// it is about, and so condemns nobody.
    pub(super) fn check_svid_key(
        &self,
        offered: Option<OfferedKey>,
        ak: &VerifiedAk,
        subject: &Subject,
    ) -> Result<Option<CertifiedKey>, Reject> {
        let Some(OfferedKey { key, certification }) = offered else {
            return if self.require_tpm_svid_key {
                Err(Reject::CertificationMissing)
            } else {
                Ok(None)
            };
        };
        let binding = Binding {
            kind: EvidenceKind::Certify,
            ..subject.binding(&NO_NONCE)
        };
        let certified = certification.verify(ak, &binding, key)?;
        let request = CertificateRequest::verify(&subject.csr).map_err(|_| Reject::CertifiedName)?;
        certified.check_request(&request.public_key.to_spki())?;
        Ok(Some(certified))
    }
}
