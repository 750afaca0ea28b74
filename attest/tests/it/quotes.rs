//! Quotes that a TPM in software made: who signed them, and about what. Each check has one that it refuses.

use attest::{Binding, EvidenceKind, Reject};

use crate::{
    evidence::{BINDING, ENDORSEMENT, Evidence, name_of, qualified_name, statement, values},
    tpm::{Area, ECDSA, SHA1, SHA256, SHA384, Statement, sign, signing_key, sized, words},
};

fn check(evidence: &Evidence, expected: Result<(), Reject>) {
    assert_eq!(evidence.verify().map(drop), expected);
}

fn check_changed(change: impl FnOnce(&mut Statement), expected: Reject) {
    check(&Evidence::changed(change), Err(expected));
}

#[test]
fn proves_the_values_that_it_covers() {
    let evidence = Evidence::good();
    let proven = evidence.verify().unwrap();
    assert_eq!(*proven.values(), values().select(&evidence.wanted));
    let quote = evidence.quote().unwrap();
    assert_eq!(*quote.selection(), evidence.wanted);
    assert_eq!(
        (
            quote.clock.clock,
            quote.clock.reset_count,
            quote.clock.restart_count
        ),
        (9, 7, 1)
    );
    assert!(quote.clock.safe);
    assert_eq!(quote.firmware_version, 3);
    assert_eq!(
        quote.over(&evidence.wanted).unwrap().matches(&values()),
        Ok(proven)
    );
}

#[test]
fn the_tpm_made_the_statement_and_it_is_a_quote() {
    check_changed(|statement| statement.magic = 0xff54_4346, Reject::AttestMagic);
    check_changed(|statement| statement.magic = 0, Reject::AttestMagic);
    check_changed(
        |statement| {
            statement.kind = 0x8017;
            statement.attested = [sized(&[0; 34]), sized(&[0; 34])].concat();
        },
        Reject::AttestType,
    );
}

#[test]
fn is_about_this_connection_and_request() {
    let others = [
        Binding {
            kind: EvidenceKind::Session,
            ..BINDING
        },
        Binding {
            kind: EvidenceKind::Certify,
            ..BINDING
        },
        Binding {
            exporter: &[9; 32],
            ..BINDING
        },
        Binding {
            nonce: &[0; 32],
            ..BINDING
        },
        Binding { csr: b"", ..BINDING },
        Binding {
            csr: b"another",
            ..BINDING
        },
        Binding {
            hello: &[9; 32],
            ..BINDING
        },
    ];
    for other in others {
        check_changed(
            |statement| statement.extra_data = other.extra_data().into(),
            Reject::ExtraData,
        );
    }
    check_changed(|statement| statement.extra_data.clear(), Reject::ExtraData);
    check_changed(|statement| statement.extra_data.push(0), Reject::ExtraData);
    check_changed(|statement| statement.extra_data.truncate(31), Reject::ExtraData);
}

#[test]
fn is_signed_by_a_primary_key_of_the_endorsement_hierarchy() {
    let key = signing_key();
    let area = Area::attestation(&key).marshal();
    // Those of the owner, of nobody, and of the platform.
    let hierarchies = [0x4000_0001, 0x4000_0007, 0x4000_000c];
    let mut signers: Vec<_> = hierarchies
        .map(|hierarchy| qualified_name(&key, hierarchy))
        .into();
    signers.extend([
        vec![],
        name_of(&area),
        qualified_name(&signing_key(), ENDORSEMENT),
    ]);
    for signer in signers {
        let statement = Statement {
            signer,
            ..statement(&key, &values())
        };
        check(&Evidence::of(&key, &statement), Err(Reject::QualifiedSigner));
    }
}

#[test]
fn is_signed_by_the_scheme_of_the_key() {
    let [r, s] = [sized(&[1; 32]), sized(&[1; 32])];
    let signatures = [
        [words(&[ECDSA, SHA1]), r.clone(), s.clone()].concat(),
        [words(&[ECDSA, SHA384]), r, s].concat(),
        [words(&[0x0014, SHA256]), sized(&[1; 256])].concat(),
        [words(&[0x0016, SHA256]), sized(&[1; 256])].concat(),
    ];
    for signature in signatures {
        let evidence = Evidence {
            signature,
            ..Evidence::good()
        };
        check(&evidence, Err(Reject::SignatureScheme));
    }
}

#[test]
fn is_signed_by_the_key() {
    let good = Evidence::good();
    let ecdsa = |r: &[u8], s: &[u8]| [words(&[ECDSA, SHA256]), sized(r), sized(s)].concat();
    let (r, s) = (&good.signature[6..38], &good.signature[40..]);
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let signatures = [
        sign(&signing_key(), &good.statement),
        ecdsa(s, r),
        ecdsa(&[], s),
        ecdsa(r, &[]),
        ecdsa(&[0; 32], s),
        ecdsa(r, &[0; 32]),
        ecdsa(&order, s),
        ecdsa(r, &order),
        ecdsa(&[&[0], r].concat(), s),
    ];
    for signature in signatures {
        check(
            &Evidence {
                signature,
                ..good.clone()
            },
            Err(Reject::SignatureInvalid),
        );
    }
    check(&good, Ok(()));
}

/// Some TPMs leave leading zeros of a signature's halves out.
#[test]
fn half_a_signature_may_be_short() {
    let key = signing_key();
    let mut evidence = Evidence::of(&key, &statement(&key, &values()));
    while evidence.signature[6] != 0 {
        evidence.signature = sign(&key, &evidence.statement);
    }
    evidence.signature.remove(6);
    evidence.signature[5] = 31;
    check(&evidence, Ok(()));
}
