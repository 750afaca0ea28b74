//! Certifications by an attestation key in software: which keys they show to be in the TPM.

use attest::{AttestationKey, Binding, Certification, EvidenceKind, Reject, wire::Public};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};

use crate::{
    evidence::{BINDING, ENDORSEMENT, name_of, qualified_name},
    tpm::{Area, ECDSA, Key, NULL, SHA1, SHA256, Said, Statement, sign, signing_key, sized},
};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
const SIGNING: u32 = 0x0004_0472;

/// What the agent sends: a key, and the word of its attestation key for it.
struct Evidence {
    ak: EcdsaKeyPair,
    key: Vec<u8>,
    statement: Statement,
}

const ABOUT: Binding<'static> = Binding {
    kind: EvidenceKind::Certify,
    ..BINDING
};

fn plain(key: &EcdsaKeyPair) -> Area {
    Area {
        attributes: SIGNING,
        ..Area::attestation(key)
    }
}

impl Evidence {
    fn good() -> Self {
        Self::of(&plain(&signing_key()))
    }

    fn of(area: &Area) -> Self {
        let (ak, key) = (signing_key(), area.marshal());
        let statement = Statement {
            magic: 0xff54_4347,
            kind: 0x8017,
            signer: qualified_name(&ak, ENDORSEMENT),
            extra_data: ABOUT.extra_data().into(),
            said: Said::default(),
            attested: [sized(&name_of(&key)), sized(&name_of(&[]))].concat(),
        };
        Self { ak, key, statement }
    }

    fn verify(&self) -> Result<attest::CertifiedKey, Reject> {
        let ak = AttestationKey::parse(&Area::attestation(&self.ak).marshal())?;
        let public = ak.public().clone();
        let ak = ak.remembered(&public)?;
        let statement = self.statement.marshal();
        let certification = Certification::parse(&statement, &sign(&self.ak, &statement))?;
        certification.verify(&ak, &ABOUT, Public::parse(&self.key).unwrap())
    }
}

fn check(evidence: &Evidence, expected: Result<(), Reject>) {
    assert_eq!(evidence.verify().map(drop), expected);
}

#[test]
fn a_signing_key_of_the_tpm_is_certified() {
    let key = signing_key();
    let certified = Evidence::of(&plain(&key)).verify().unwrap();
    assert_eq!(certified.public().as_bytes(), plain(&key).marshal());
}

#[test]
fn the_request_is_for_the_certified_key() {
    let key = signing_key();
    let certified = Evidence::of(&plain(&key)).verify().unwrap();
    let spki = |key: &EcdsaKeyPair| {
        let header = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        [&header[..], key.public_key().as_ref()].concat()
    };
    assert_eq!(certified.check_request(&spki(&key)), Ok(()));
    let refused = Err(Reject::CertifiedName);
    assert_eq!(certified.check_request(&spki(&signing_key())), refused);
    assert_eq!(certified.check_request(&[]), refused);
}

#[test]
fn a_key_that_could_be_in_software_is_refused() {
    // Not fixed, imported, made elsewhere; restricted; for decryption; not for signing.
    for bit in [1, 4, 5, 16, 17, 18] {
        let mut area = plain(&signing_key());
        area.attributes ^= 1 << bit;
        check(&Evidence::of(&area), Err(Reject::CertifiedAttributes));
    }
    let mut weak_name = plain(&signing_key());
    weak_name.name_alg = SHA1;
    check(&Evidence::of(&weak_name), Err(Reject::CertifiedAttributes));
    let mut off_curve = plain(&signing_key());
    if let Key::Ecc { y, .. } = &mut off_curve.key {
        y[31] ^= 1;
    }
    check(&Evidence::of(&off_curve), Err(Reject::CertifiedAttributes));
}

#[test]
fn another_key_is_not_certified() {
    let mut evidence = Evidence::good();
    evidence.key = plain(&signing_key()).marshal();
    check(&evidence, Err(Reject::CertifiedName));
    // The same point in another public area has another Name.
    let key = signing_key();
    let mut evidence = Evidence::of(&plain(&key));
    let open = Area {
        scheme: vec![NULL],
        ..plain(&key)
    };
    evidence.key = open.marshal();
    check(&evidence, Err(Reject::CertifiedName));
    let mut evidence = Evidence::good();
    evidence.statement.attested = [sized(&[]), sized(&[])].concat();
    check(&evidence, Err(Reject::CertifiedName));
    assert_eq!(plain(&key).scheme, [ECDSA, SHA256]);
}

#[test]
fn a_certification_is_about_this_connection_and_no_quote() {
    let mut quote_binding = Evidence::good();
    quote_binding.statement.extra_data = BINDING.extra_data().into();
    check(&quote_binding, Err(Reject::ExtraData));
    let mut owner = Evidence::good();
    owner.statement.signer = qualified_name(&owner.ak, 0x4000_0001);
    check(&owner, Err(Reject::QualifiedSigner));
    let mut quote = Evidence::good();
    quote.statement.kind = 0x8018;
    quote.statement.attested = crate::tpm::quoted(&[(SHA256, 1)], &[0; 32]);
    check(&quote, Err(Reject::AttestType));
    let mut forged = Evidence::good();
    forged.statement.magic = 0;
    check(&forged, Err(Reject::AttestMagic));
}
