//! The word of an attestation key for the key of an SVID, and that key.

use attest::{AttestationKey, Binding, Certification, CertifiedKey, EvidenceKind, Reject, wire::Public};

use super::every_byte_counts;
use crate::{
    evidence::{BINDING, ENDORSEMENT, name_of, qualified_name},
    tpm::{Area, Said, Statement, sign, signing_key, sized},
};

const ABOUT: Binding<'static> = Binding {
    kind: EvidenceKind::Certify,
    ..BINDING
};

struct Evidence {
    ak: Vec<u8>,
    key: Vec<u8>,
    statement: Vec<u8>,
    signature: Vec<u8>,
    /// SubjectPublicKeyInfo of the request.
    request: Vec<u8>,
}

impl Evidence {
    fn good() -> Self {
        let ak = signing_key();
        let key = Area::signing(&signing_key()).marshal();
        let name = sized(&name_of(&key));
        let statement = Statement {
            magic: 0xff54_4347,
            kind: 0x8017,
            signer: qualified_name(&ak, ENDORSEMENT),
            extra_data: ABOUT.extra_data().into(),
            said: Said::default(),
            attested: [name.clone(), name].concat(),
        };
        let statement = statement.marshal();
        Self {
            ak: Area::attestation(&ak).marshal(),
            signature: sign(&ak, &statement),
            request: Public::parse(&key).unwrap().to_spki(),
            key,
            statement,
        }
    }

    fn appraise(&self, [key, statement, signature, request]: [&[u8]; 4]) -> Result<CertifiedKey, Reject> {
        let ak = AttestationKey::parse(&self.ak)?;
        let known = ak.public().clone();
        let ak = ak.remembered(&known)?;
        let key = Public::parse(key).map_err(|_| Reject::CertifiedAttributes)?;
        let certified = Certification::parse(statement, signature)?.verify(&ak, &ABOUT, key)?;
        certified.check_request(request)?;
        Ok(certified)
    }
}

#[test]
fn every_byte_of_a_certification_and_its_key_counts() {
    let good = Evidence::good();
    let Evidence {
        key,
        statement,
        signature,
        request,
        ..
    } = &good;
    every_byte_counts(key, |key| good.appraise([key, statement, signature, request]));
    every_byte_counts(statement, |statement| {
        good.appraise([key, statement, signature, request])
    });
    every_byte_counts(signature, |signature| {
        good.appraise([key, statement, signature, request])
    });
    every_byte_counts(request, |request| {
        good.appraise([key, statement, signature, request])
    });
}
