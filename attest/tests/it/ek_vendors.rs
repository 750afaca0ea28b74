//! For whom roots vouch, and who may take a CA's name.

use crate::{
    fixtures::weak_key,
    vendor::{ATTRIBUTES, Ca, Change, NOW, roots, set_attributes},
};
use attest::{
    Reject,
    ek::{CaCertificate, EkCertificate, EkRoots, Expiry, VendorId},
};

const UNCHANGED: Change = |_| ();
/// `PLST`, as the certificates of our own vendor say.
const OURS: &[VendorId] = &[VendorId::from_property(0x504c_5354)];
/// `NTC` and `STM`.
const OTHERS: &[VendorId] = &[
    VendorId::from_property(0x4e54_4300),
    VendorId::from_property(0x5354_4d20),
];

fn check(roots: &EkRoots, sent: &[CaCertificate], leaf: EkCertificate, expected: Result<(), Reject>) {
    assert_eq!(roots.verify(leaf, sent, NOW).map(drop), expected);
}

fn scoped(root: &Ca, vendors: &'static [VendorId]) -> EkRoots {
    let mut roots = EkRoots::new(Expiry::Enforced);
    roots.add_vendor_root(root.certificate(), vendors);
    roots
}

#[test]
fn a_vendors_root_vouches_for_its_own_tpms() {
    let root = Ca::root("root", UNCHANGED);
    let between = root.issue("between", UNCHANGED);
    let sent = [between.certificate()];
    let other = Err(Reject::EkManufacturer);
    check(&scoped(&root, OURS), &[], root.leaf(UNCHANGED), Ok(()));
    check(&scoped(&root, OURS), &sent, between.leaf(UNCHANGED), Ok(()));
    check(&scoped(&root, OTHERS), &[], root.leaf(UNCHANGED), other);
    check(&scoped(&root, OTHERS), &sent, between.leaf(UNCHANGED), other);
    check(&scoped(&root, &[]), &[], root.leaf(UNCHANGED), other);
}

#[test]
fn the_operators_root_vouches_for_all() {
    let root = Ca::root("root", UNCHANGED);
    let mut both = scoped(&root, OTHERS);
    both.add_root(root.certificate());
    check(&both, &[], root.leaf(UNCHANGED), Ok(()));
}

#[test]
fn a_manufacturer_by_name_has_the_operators_roots_alone() {
    let root = Ca::root("root", UNCHANGED);
    let named: Change = |params| {
        let [_, model, version] = ATTRIBUTES;
        set_attributes(params, &[&[(1, "Plastron"), model, version]]);
    };
    check(
        &scoped(&root, OURS),
        &[],
        root.leaf(named),
        Err(Reject::EkManufacturer),
    );
    check(&roots(Expiry::Enforced, &[&root]), &[], root.leaf(named), Ok(()));
}

/// Hosts are enrolled by the name of the issuer: no CA of another root takes it.
#[test]
fn what_is_sent_takes_no_name_that_is_known() {
    let [ours, theirs] = ["ours", "theirs"].map(|name| Ca::root(name, UNCHANGED));
    let known = ours.issue("between", UNCHANGED);
    let taken = theirs.issue("between", UNCHANGED);
    let mut both = roots(Expiry::Enforced, &[&ours, &theirs]);
    check(&both, &[taken.certificate()], taken.leaf(UNCHANGED), Ok(()));
    both.add_intermediate(known.certificate());
    let refused = Err(Reject::EkChainSignature);
    check(&both, &[taken.certificate()], taken.leaf(UNCHANGED), refused);
    check(&both, &[], known.leaf(UNCHANGED), Ok(()));
    let root_taken = theirs.issue("ours", UNCHANGED);
    check(
        &both,
        &[root_taken.certificate()],
        root_taken.leaf(UNCHANGED),
        refused,
    );
}

#[test]
fn who_issued_it_is_known() {
    let root = Ca::root("root", UNCHANGED);
    let between = root.issue("between", UNCHANGED);
    let known = roots(Expiry::Enforced, &[&root]);
    let trusted = known
        .verify(between.leaf(UNCHANGED), &[between.certificate()], NOW)
        .unwrap();
    assert_eq!(trusted.issuer_key(), between.certificate().key());
    assert_eq!(trusted.root_key(), root.certificate().key());
}

#[test]
fn a_ca_whose_key_can_be_factored_vouches_for_nothing() {
    let weak = Ca::root_with(weak_key("roca.pem"));
    let known = roots(Expiry::Enforced, &[&weak]);
    check(&known, &[], weak.leaf(UNCHANGED), Err(Reject::EkChainWeak));
}
