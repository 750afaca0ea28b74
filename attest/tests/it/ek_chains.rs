//! Ways from an endorsement certificate to a root: which count, and which don't.

use attest::{
    Reject,
    ek::{CaCertificate, CaError, Crl, EkCertificate, EkRoots, Expiry},
};
use rcgen::{
    BasicConstraints, DistinguishedName, DnType, DnValue, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::vendor::{Ca, Change, NOW, roots, unknown_extension};

const UNCHANGED: Change = |_| ();
const ENDED: Change = |params| params.not_after = date_time_ymd(2026, 11, 21);
const NOT_YET: Change = |params| params.not_before = date_time_ymd(2026, 11, 23);

fn check(roots: &EkRoots, sent: &[CaCertificate], leaf: EkCertificate, expected: Result<(), Reject>) {
    assert_eq!(roots.verify(leaf, sent, NOW).map(drop), expected);
}

/// Checks a leaf below an intermediate below a root, each changed.
fn check_three(expiry: Expiry, [root, between, leaf]: [Change; 3], expected: Result<(), Reject>) {
    let root = Ca::root("root", root);
    let between = root.issue("between", between);
    let leaf = between.leaf(leaf);
    check(&roots(expiry, &[&root]), &[between.certificate()], leaf, expected);
}

/// CAs below a root, each below the one before.
fn line(root: &Ca, length: usize) -> Vec<Ca> {
    let mut line: Vec<Ca> = Vec::new();
    for depth in 0..length {
        let issuer = line.last().unwrap_or(root);
        line.push(issuer.issue(&format!("depth {depth}"), UNCHANGED));
    }
    line
}

#[test]
fn a_way_may_lead_over_known_certificates_and_sent_ones() {
    let root = Ca::root("root", UNCHANGED);
    let line = line(&root, 2);
    let mut known = roots(Expiry::Enforced, &[&root]);
    check(&known, &[], root.leaf(UNCHANGED), Ok(()));
    let below = || line[1].leaf(UNCHANGED);
    check(
        &known,
        &[line[1].certificate()],
        below(),
        Err(Reject::EkChainUnknown),
    );
    known.add_intermediate(line[0].certificate());
    check(&known, &[line[1].certificate()], below(), Ok(()));
    check(&known, &[], below(), Err(Reject::EkChainUnknown));
}

#[test]
fn a_sent_root_is_not_trusted() {
    let [ours, theirs] = ["ours", "theirs"].map(|name| Ca::root(name, UNCHANGED));
    let known = roots(Expiry::Ignored, &[&ours]);
    check(
        &known,
        &[theirs.certificate()],
        theirs.leaf(UNCHANGED),
        Err(Reject::EkChainUnknown),
    );
    check(
        &EkRoots::new(Expiry::Ignored),
        &[],
        ours.leaf(UNCHANGED),
        Err(Reject::EkChainUnknown),
    );
}

#[test]
fn the_name_of_a_root_is_not_its_key() {
    let [ours, theirs] = [Ca::root("root", UNCHANGED), Ca::root("root", UNCHANGED)];
    let known = roots(Expiry::Enforced, &[&ours]);
    check(&known, &[], theirs.leaf(UNCHANGED), Err(Reject::EkChainSignature));
    let both = roots(Expiry::Enforced, &[&ours, &theirs]);
    check(&both, &[], ours.leaf(UNCHANGED), Ok(()));
    check(&both, &[], theirs.leaf(UNCHANGED), Ok(()));
}

/// The same name as [`Ca::root`] gives it, in letters and a string type of its own.
const PRINTABLE: Change = |params| {
    let name = DnValue::PrintableString("The  ROOT".try_into().unwrap());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
};

#[test]
fn a_name_is_the_same_in_another_string_type() {
    let ours = Ca::root("the root", PRINTABLE);
    let in_utf8 = || ours.cross_sign("The Root", &ours);
    assert!(in_utf8().is_self_issued());
    let mut known = EkRoots::new(Expiry::Enforced);
    known.add_root(in_utf8());
    check(&known, &[], ours.leaf(UNCHANGED), Ok(()));
    let between = ours.issue("between", UNCHANGED);
    check(&known, &[between.certificate()], between.leaf(UNCHANGED), Ok(()));
    // Who has the name has not the key, and both are tried.
    let theirs = Ca::root("the root", UNCHANGED);
    check(&known, &[], theirs.leaf(UNCHANGED), Err(Reject::EkChainSignature));
    known.add_root(theirs.certificate());
    check(&known, &[], theirs.leaf(UNCHANGED), Ok(()));
    check(&known, &[], ours.leaf(UNCHANGED), Ok(()));
    known.add_crl(Crl::parse(&ours.revoke(&[7], (2026, 12, 24))).unwrap());
    let serial_7: Change = |params| params.serial_number = Some(vec![7].into());
    check(&known, &[], ours.leaf(serial_7), Err(Reject::EkRevoked));
    check(&known, &[], theirs.leaf(serial_7), Ok(()));
}

/// Hosts are enrolled by the name of their issuer, which is printed without its string types.
#[test]
fn a_sent_certificate_gives_a_known_name_to_no_other_key_in_any_string_type() {
    let root = Ca::root("the top", UNCHANGED);
    let [ours, theirs] = [
        root.issue("the root", UNCHANGED),
        root.issue("the root", PRINTABLE),
    ];
    let mut known = roots(Expiry::Enforced, &[&root]);
    check(&known, &[theirs.certificate()], theirs.leaf(UNCHANGED), Ok(()));
    known.add_intermediate(ours.certificate());
    check(
        &known,
        &[theirs.certificate()],
        theirs.leaf(UNCHANGED),
        Err(Reject::EkChainSignature),
    );
}

#[test]
fn a_changed_certificate_has_no_signature() {
    let root = Ca::root("root", UNCHANGED);
    let mut der = root.endorse(&KeyPair::generate().unwrap(), UNCHANGED);
    let model = der.windows(8).position(|bytes| bytes == b"Carapace").unwrap();
    der[model] = b'c';
    let leaf = EkCertificate::parse(&der).unwrap();
    check(
        &roots(Expiry::Enforced, &[&root]),
        &[],
        leaf,
        Err(Reject::EkChainSignature),
    );
}

#[test]
fn signatures_of_usual_algorithms_count() {
    let cases = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Ok(())),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Ok(())),
        (&rcgen::PKCS_ECDSA_P521_SHA512, Ok(())),
        (&rcgen::PKCS_RSA_SHA256, Ok(())),
        (&rcgen::PKCS_RSA_SHA384, Ok(())),
        (&rcgen::PKCS_RSA_SHA512, Ok(())),
        (&rcgen::PKCS_ED25519, Err(Reject::EkChainSignature)),
    ];
    for (algorithm, expected) in cases {
        let root = Ca::root_for(algorithm);
        check(
            &roots(Expiry::Enforced, &[&root]),
            &[],
            root.leaf(UNCHANGED),
            expected,
        );
    }
}

#[test]
fn every_certificate_is_valid_now() {
    let places = [0, 1, 2].map(|place| {
        move |change| {
            let mut changes = [UNCHANGED; 3];
            changes[place] = change;
            changes
        }
    });
    for at in places {
        check_three(Expiry::Enforced, at(ENDED), Err(Reject::EkChainExpired));
        check_three(Expiry::Enforced, at(NOT_YET), Err(Reject::EkChainExpired));
    }
}

#[test]
fn only_ended_certificates_can_be_accepted() {
    check_three(Expiry::Ignored, [ENDED; 3], Ok(()));
    for changes in [
        [NOT_YET, UNCHANGED, UNCHANGED],
        [UNCHANGED, NOT_YET, UNCHANGED],
        [UNCHANGED, UNCHANGED, NOT_YET],
    ] {
        check_three(Expiry::Ignored, changes, Err(Reject::EkChainExpired));
    }
}

#[test]
fn an_issuer_may_issue() {
    let not_ca = Err(Reject::EkChainNotCa);
    let no_signing: Change = |params| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let none_below: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let one_below: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let unsaid: Change = |params| params.key_usages.clear();
    let cases = [
        ([no_signing, UNCHANGED, UNCHANGED], not_ca),
        ([UNCHANGED, no_signing, UNCHANGED], not_ca),
        ([none_below, UNCHANGED, UNCHANGED], not_ca),
        ([one_below, none_below, UNCHANGED], Ok(())),
        ([unsaid, unsaid, UNCHANGED], Ok(())),
    ];
    for (changes, expected) in cases {
        check_three(Expiry::Enforced, changes, expected);
    }
}

#[test]
fn an_issuer_has_no_restriction_that_we_do_not_process() {
    let critical: Change = |params| params.custom_extensions = vec![unknown_extension(true)];
    let harmless: Change = |params| params.custom_extensions = vec![unknown_extension(false)];
    let refused = Err(Reject::EkCertificateCritical);
    check_three(Expiry::Enforced, [UNCHANGED, critical, UNCHANGED], refused);
    check_three(Expiry::Enforced, [critical, UNCHANGED, UNCHANGED], refused);
    check_three(Expiry::Enforced, [UNCHANGED, harmless, UNCHANGED], Ok(()));
}

#[test]
fn other_bytes_are_no_ca() {
    let root = Ca::root("root", UNCHANGED);
    let leaf = root.leaf(UNCHANGED);
    assert_eq!(CaCertificate::parse(leaf.as_der()), Err(CaError::NotCa));
    let long = [&root.der[..], &[0]].concat();
    for bytes in [b"", &root.der[1..], &root.der[..root.der.len() - 1], &long] {
        assert_eq!(CaCertificate::parse(bytes), Err(CaError::Malformed));
    }
}

/// What says nothing may be any certificate: a root is believed by configuration, one between is not.
#[test]
fn only_a_root_may_be_of_version_1() {
    let [root, other] = ["root", "other"].map(|name| Ca::root(name, UNCHANGED));
    let mut known = EkRoots::new(Expiry::Enforced);
    known.add_root(root.issue_version_1(["root", "root"], &root));
    check(&known, &[], root.leaf(UNCHANGED), Ok(()));
    let between = root.issue_version_1(["root", "other"], &other);
    check(
        &known,
        &[between],
        other.leaf(UNCHANGED),
        Err(Reject::EkChainNotCa),
    );
}

#[test]
fn ways_are_of_five_certificates_between_at_most() {
    let root = Ca::root("root", UNCHANGED);
    let known = roots(Expiry::Enforced, &[&root]);
    let line = line(&root, 6);
    let sent: Vec<_> = line.iter().map(Ca::certificate).collect();
    check(&known, &sent, line[4].leaf(UNCHANGED), Ok(()));
    check(
        &known,
        &sent,
        line[5].leaf(UNCHANGED),
        Err(Reject::EkChainUnknown),
    );
}

#[test]
fn a_circle_ends() {
    let root = Ca::root("root", UNCHANGED);
    let [one, two] = ["one", "two"].map(|name| Ca::root(name, UNCHANGED));
    let circle = [one.cross_sign("two", &two), two.cross_sign("one", &one)];
    let known = roots(Expiry::Enforced, &[&root]);
    check(&known, &circle, one.leaf(UNCHANGED), Err(Reject::EkChainUnknown));
    check(
        &known,
        &[one.certificate()],
        one.leaf(UNCHANGED),
        Err(Reject::EkChainUnknown),
    );
}

/// Each of these issued each other, so that there are 64⁵ ways; or none issued the leaf.
#[test]
fn a_flood_of_one_name_ends() {
    let root = Ca::root("root", UNCHANGED);
    let known = roots(Expiry::Enforced, &[&root]);
    let flood = Ca::root("flood", UNCHANGED);
    let same_key: Vec<_> = (0..64).map(|_| flood.cross_sign("flood", &flood)).collect();
    check(&known, &same_key, flood.leaf(UNCHANGED), Err(Reject::TooLarge));
    let other_keys: Vec<_> = (0..64)
        .map(|_| Ca::root("flood", UNCHANGED).certificate())
        .collect();
    check(&known, &other_keys, flood.leaf(UNCHANGED), Err(Reject::TooLarge));
}

#[test]
fn a_flood_does_not_hide_a_known_way() {
    let root = Ca::root("root", UNCHANGED);
    let between = root.issue("between", UNCHANGED);
    let mut known = roots(Expiry::Enforced, &[&root]);
    known.add_intermediate(between.certificate());
    let flood: Vec<_> = (0..64)
        .map(|_| Ca::root("between", UNCHANGED).certificate())
        .collect();
    check(&known, &flood, between.leaf(UNCHANGED), Ok(()));
}
