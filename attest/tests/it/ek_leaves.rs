//! Endorsement certificates of our own making: what is read from them, and what is refused at once.

use attest::{
    Reject,
    ek::{EkCertificate, Expiry},
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use crate::vendor::{ATTRIBUTES, Ca, Change, NOW, roots, set_attributes, unknown_extension};

/// A certificate, and what is read from it as it stands in NV memory.
fn check(nv: &[u8], expected: Result<(), Reject>) {
    assert_eq!(
        EkCertificate::parse(nv).map(drop),
        expected,
        "{}",
        hex::encode(nv)
    );
}

fn check_changed(change: Change, expected: Result<(), Reject>) {
    check(&endorse(change), expected);
}

fn endorse(change: Change) -> Vec<u8> {
    Ca::root("root", |_| ()).endorse(&KeyPair::generate().unwrap(), change)
}

#[test]
fn is_made_for_an_endorsement_key() {
    let refused = Err(Reject::EkCertificateUsage);
    check_changed(|_| (), Ok(()));
    check_changed(|params| params.key_usages.clear(), Ok(()));
    check_changed(
        |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        Ok(()),
    );
    check_changed(|params| params.extended_key_usages.clear(), Ok(()));
    check_changed(|params| params.is_ca = IsCa::NoCa, Ok(()));
    check_changed(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        refused,
    );
    check_changed(
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        refused,
    );
    check_changed(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        refused,
    );
    // tcg-kp-AIKCertificate.
    check_changed(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])],
        refused,
    );
}

#[test]
fn has_no_restriction_that_we_do_not_process() {
    check_changed(
        |params| params.custom_extensions.push(unknown_extension(false)),
        Ok(()),
    );
    check_changed(
        |params| params.custom_extensions.push(unknown_extension(true)),
        Err(Reject::EkCertificateCritical),
    );
}

#[test]
fn attributes_stand_in_one_name_or_in_three() {
    let [manufacturer, model, version] = ATTRIBUTES;
    for names in [
        &[&[manufacturer, model, version][..]][..],
        &[&[manufacturer], &[model], &[version]],
        &[&[version, model], &[manufacturer]],
    ] {
        let certificate = with_attributes(names).unwrap();
        let attributes = certificate.attributes();
        assert_eq!(attributes.manufacturer, manufacturer.1);
        assert_eq!(attributes.model, model.1);
        assert_eq!(attributes.version, version.1);
    }
}

#[test]
fn each_attribute_comes_once() {
    let refused = Err(Reject::EkCertificateAttributes);
    for attribute in ATTRIBUTES {
        let others: Vec<_> = ATTRIBUTES
            .into_iter()
            .filter(|other| *other != attribute)
            .collect();
        assert_eq!(with_attributes(&[&others]).map(drop), refused, "no {attribute:?}");
        let again = (attribute.0, "other");
        for names in [&[&ATTRIBUTES[..], &[again]][..], &[&[again], &ATTRIBUTES]] {
            assert_eq!(with_attributes(names).map(drop), refused, "two {attribute:?}");
        }
    }
    check_changed(|params| params.custom_extensions.clear(), refused);
    check_changed(
        |params| params.custom_extensions.push(params.custom_extensions[0].clone()),
        Err(Reject::EkCertificateMalformed),
    );
}

fn with_attributes(names: &[&[(u8, &str)]]) -> Result<EkCertificate, Reject> {
    let root = Ca::root("root", |_| ());
    EkCertificate::parse(&root.endorse_with(|params| set_attributes(params, names)))
}

#[test]
fn a_header_and_padding_are_taken_off() {
    let der = endorse(|_| ());
    let length = u16::try_from(der.len()).unwrap();
    let header = |length: u16| [&[0x10, 0x01, 0x00][..], &length.to_be_bytes()].concat();
    let tagged = |length: u16| [header(length), vec![0x10, 0x02]].concat();
    let fronts = [vec![], header(length), tagged(length), tagged(length + 2)];
    for front in fronts {
        for padding in [&[][..], &[0], &[0xff], &[0; 700], &[0xff; 700]] {
            let nv = [&front[..], &der, padding].concat();
            let certificate = EkCertificate::parse(&nv).unwrap();
            assert_eq!(certificate.as_der(), der, "{}", hex::encode(nv));
        }
        for other in [&[1][..], &[0, 0xff], &[0xff, 0], &der] {
            let nv = [&front[..], &der, other].concat();
            check(&nv, Err(Reject::EkCertificateMalformed));
        }
    }
}

/// Not as RFC 5280 §4.1.2.2 wants them; there are such TPMs.
#[test]
fn serial_numbers_may_be_long_or_negative() {
    let long = [0x7f; 20];
    let der =
        Ca::root("root", |_| ()).endorse_with(|params| params.serial_number = Some(long.to_vec().into()));
    let at = der.windows(20).position(|bytes| bytes == long).unwrap();
    let serial = |der: &[u8]| EkCertificate::parse(der).unwrap().id().serial().to_vec();
    assert_eq!(serial(&der), long);
    let mut negative = der.clone();
    negative[at] = 0x80;
    assert_eq!(serial(&negative), negative[at..at + 20]);
    // Two bytes more, in the number, what is signed, and the certificate.
    let mut longer = [&der[..at], &[0x7f; 2], &der[at..]].concat();
    longer[at - 1] += 2;
    for length in [2, 6] {
        let grown = u16::from_be_bytes([longer[length], longer[length + 1]]) + 2;
        longer[length..length + 2].copy_from_slice(&grown.to_be_bytes());
    }
    assert_eq!(serial(&longer), [0x7f; 22]);
}

#[test]
fn a_certificate_may_have_no_end() {
    let root = Ca::root("root", |_| ());
    let endless: Change = |params| params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let known = roots(Expiry::Enforced, &[&root]);
    assert!(known.verify(root.leaf(endless), &[], NOW).is_ok());
}

#[test]
fn the_alternative_name_need_not_be_critical() {
    check_changed(
        |params| params.custom_extensions[0].set_criticality(false),
        Ok(()),
    );
}

#[test]
fn other_bytes_are_no_certificate() {
    let der = endorse(|_| ());
    for length in 0..der.len() {
        check(&der[..length], Err(Reject::EkCertificateMalformed));
    }
    for front in [&[0x10, 0x01, 0x01, 0, 0][..], &[0x10, 0x01], &[0]] {
        check(&[front, &der].concat(), Err(Reject::EkCertificateMalformed));
    }
    let long = [&der[..], &[0; 8192]].concat();
    check(&long[..8192], Ok(()));
    check(&long[..8193], Err(Reject::TooLarge));
}

/// What is signed begins after a header of four bytes, and has one itself. Around it the parser overlooks
/// some tags, which changes nothing of what is read.
#[test]
fn any_changed_byte_that_is_signed_is_refused() {
    let root = Ca::root("root", |_| ());
    let der = root.endorse(&KeyPair::generate().unwrap(), |_| ());
    let good = EkCertificate::parse(&der).unwrap();
    let known = roots(Expiry::Ignored, &[&root]);
    let signed = 4..8 + usize::from(u16::from_be_bytes([der[6], der[7]]));
    for (at, bit) in (0..der.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = der.clone();
        changed[at] ^= 1_u8 << bit;
        let verified = EkCertificate::parse(&changed).and_then(|leaf| known.verify(leaf, &[], NOW));
        if let Ok(trusted) = verified {
            assert!(
                !signed.contains(&at),
                "bit {bit} of byte {at} of {}",
                hex::encode(&der)
            );
            assert_eq!(trusted.get().id(), good.id());
            assert_eq!(trusted.get().attributes(), good.attributes());
        }
    }
}
