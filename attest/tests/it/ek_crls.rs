//! What vendors revoked, as CRLs in files say.

use attest::{
    Reject,
    ek::{Crl, CrlError, EkRoots, Expiry, Freshness},
};
use rcgen::{CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, KeyUsagePurpose};

use crate::vendor::{Ca, Change, NOW, roots};

const UNCHANGED: Change = |_| ();
const SERIAL_7: Change = |params| params.serial_number = Some(vec![7].into());
const SERIAL_8: Change = |params| params.serial_number = Some(vec![8].into());
const NEXT_MONTH: (i32, u8, u8) = (2026, 12, 24);
const LAST_MONTH: (i32, u8, u8) = (2026, 10, 24);

/// Checks a leaf with serial number 7 below an intermediate with serial number 8.
fn check(freshness: Freshness, crls: impl Fn(&Ca, &Ca) -> Vec<Vec<u8>>, expected: Result<(), Reject>) {
    let root = Ca::root("root", UNCHANGED);
    let between = root.issue("between", SERIAL_8);
    let mut known: EkRoots = roots(Expiry::Enforced, &[&root]);
    known.set_freshness(freshness);
    for crl in crls(&root, &between) {
        known.add_crl(Crl::parse(&crl).unwrap());
    }
    let verified = known.verify(between.leaf(SERIAL_7), &[between.certificate()], NOW);
    assert_eq!(verified.map(drop), expected, "{freshness:?}");
}

const POLICIES: [Freshness; 3] = [Freshness::Ignored, Freshness::Enforced, Freshness::Required];

#[test]
fn what_is_revoked_is_refused_even_by_a_crl_that_ended() {
    for freshness in POLICIES {
        for until in [NEXT_MONTH, LAST_MONTH] {
            let revoked = Err(Reject::EkRevoked);
            check(
                freshness,
                |_, between| vec![between.revoke(&[1, 7], until)],
                revoked,
            );
        }
    }
    // Of the intermediate, by its root.
    let revoked = Err(Reject::EkRevoked);
    check(
        Freshness::Ignored,
        |root, _| vec![root.revoke(&[8], LAST_MONTH)],
        revoked,
    );
}

#[test]
fn a_crl_names_certificates_of_its_own_ca_alone() {
    check(
        Freshness::Ignored,
        |root, between| vec![root.revoke(&[7], NEXT_MONTH), between.revoke(&[8, 9], NEXT_MONTH)],
        Ok(()),
    );
}

#[test]
fn crls_may_have_to_be_fresh_or_there_at_all() {
    let none = |_: &Ca, _: &Ca| vec![];
    let fresh = |root: &Ca, between: &Ca| [root, between].map(|ca| ca.revoke(&[], NEXT_MONTH)).to_vec();
    let one = |_: &Ca, between: &Ca| vec![between.revoke(&[], NEXT_MONTH)];
    let ended = |root: &Ca, between: &Ca| vec![root.revoke(&[], NEXT_MONTH), between.revoke(&[], LAST_MONTH)];
    let stale = Err(Reject::EkCrlStale);
    for freshness in POLICIES {
        check(freshness, fresh, Ok(()));
    }
    check(Freshness::Ignored, none, Ok(()));
    check(Freshness::Ignored, ended, Ok(()));
    check(Freshness::Enforced, none, Ok(()));
    check(Freshness::Enforced, one, Ok(()));
    check(Freshness::Enforced, ended, stale);
    check(Freshness::Required, none, stale);
    check(Freshness::Required, one, stale);
    check(Freshness::Required, ended, stale);
}

#[test]
fn a_crl_by_another_key_says_nothing() {
    check(
        Freshness::Ignored,
        |_, _| vec![Ca::root("between", UNCHANGED).revoke(&[7], NEXT_MONTH)],
        Ok(()),
    );
    let changed = |_: &Ca, between: &Ca| {
        let mut crl = between.revoke(&[7], NEXT_MONTH);
        let last = crl.len() - 1;
        crl[last] ^= 1;
        vec![crl]
    };
    check(Freshness::Ignored, changed, Ok(()));
}

#[test]
fn a_ca_that_may_not_revoke_revokes_nothing() {
    let root = Ca::root("root", UNCHANGED);
    let signer = Ca::root("root", UNCHANGED);
    let no_crls: Change = |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let same_key = root.cross_sign_as("root", &root, no_crls);
    let mut known = EkRoots::new(Expiry::Enforced);
    known.add_root(same_key);
    known.add_crl(Crl::parse(&root.revoke(&[7], NEXT_MONTH)).unwrap());
    known.add_crl(Crl::parse(&signer.revoke(&[7], NEXT_MONTH)).unwrap());
    assert!(known.verify(root.leaf(SERIAL_7), &[], NOW).is_ok());
}

#[test]
fn other_bytes_and_partial_crls_are_refused() {
    let root = Ca::root("root", UNCHANGED);
    let whole = root.revoke(&[7], NEXT_MONTH);
    assert!(Crl::parse(&whole).is_ok());
    let long = [&whole[..], &[0]].concat();
    for bytes in [b"", &whole[1..], &whole[..whole.len() - 1], &long, &root.der] {
        assert_eq!(Crl::parse(bytes).map(drop), Err(CrlError::Malformed));
    }
    let point = CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint {
            uris: vec!["http://example.org".into()],
        },
        scope: Some(CrlScope::UserCertsOnly),
    };
    let partial = root.revoke_as(&[7], NEXT_MONTH, Some(point));
    assert_eq!(Crl::parse(&partial).map(drop), Err(CrlError::Unsupported));
}
