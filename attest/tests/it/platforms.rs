//! Platform certificates: what they say, who may say it, and of which TPM.

use attest::{
    Reject,
    ek::{EkCertificate, Expiry, PlatformCertificate, PlatformHolder, PlatformRoots},
};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};

use crate::{
    fixtures::ek_certificate,
    platform::Platform,
    vendor::{Ca, Change, NOW, element, set_platform_names},
};

const UNCHANGED: Change = |_| ();
const ENDED: Change = |params| params.not_after = date_time_ymd(2026, 11, 21);

/// A change of what a platform certificate says.
type Said = fn(&mut Platform);

/// A maker of TPMs, one of his, and a maker of machines.
struct Makers {
    ek: EkCertificate,
    root: Ca,
}

impl Makers {
    fn new() -> Self {
        Self {
            ek: Ca::root("tpms", UNCHANGED).leaf(UNCHANGED),
            root: Ca::root("machines", UNCHANGED),
        }
    }

    fn said(&self, change: Said) -> Platform {
        let mut platform = Platform::new("machines", &self.ek.id());
        change(&mut platform);
        platform
    }

    fn certificate(&self, change: Said) -> Result<PlatformCertificate, Reject> {
        PlatformCertificate::parse(&self.said(change).signed_by(&self.root))
    }
}

fn roots(of: &[&Ca]) -> PlatformRoots {
    let mut roots = PlatformRoots::new(Expiry::Enforced);
    of.iter().for_each(|ca| roots.add(&ca.der).unwrap());
    roots
}

fn check(roots: &PlatformRoots, der: &[u8], expected: Result<(), Reject>) {
    let certificate = PlatformCertificate::parse(der).unwrap();
    assert_eq!(roots.verify(certificate, NOW).map(drop), expected);
}

#[test]
fn a_machine_has_the_tpm_that_its_maker_put_in() {
    let makers = Makers::new();
    let certificate = makers.certificate(|_| ()).unwrap();
    assert_eq!(certificate.chassis().to_string(), "Plastron Carapace 1 C1-0042");
    assert_eq!(certificate.holder(), &PlatformHolder::Certificate(makers.ek.id()));
    assert_eq!(certificate.check_holder(&makers.ek), Ok(()));
    let other = Makers::new().ek;
    let swapped = certificate.check_holder(&other);
    assert_eq!(swapped, Err(Reject::PlatformCertificateHolder));
    let verified = roots(&[&makers.root]).verify(certificate.clone(), NOW).unwrap();
    assert_eq!(verified.get(), &certificate);
    assert_eq!(verified.issuer_key(), makers.root.certificate().key());
}

#[test]
fn what_is_no_certificate_of_a_whole_machine_is_refused() {
    let cases: [(Said, Reject); 11] = [
        (|said| said.kinds = vec![5], Reject::PlatformCertificateDelta),
        (|said| said.kinds = vec![1], Reject::PlatformCertificateMalformed),
        (
            |said| said.kinds = vec![2, 5],
            Reject::PlatformCertificateMalformed,
        ),
        (
            |said| said.names = Vec::new(),
            Reject::PlatformCertificateAttributes,
        ),
        (
            |said| drop(said.names.remove(1)),
            Reject::PlatformCertificateAttributes,
        ),
        (
            |said| said.names.push((6, "C1-0043".into())),
            Reject::PlatformCertificateAttributes,
        ),
        (
            |said| said.names[0].1 = " ".into(),
            Reject::PlatformCertificateAttributes,
        ),
        (
            |said| said.has_unknown = true,
            Reject::PlatformCertificateCritical,
        ),
        (
            |said| said.beside = element(0xa2, &[&[]]),
            Reject::PlatformCertificateHolder,
        ),
        (|said| said.holder.1.clear(), Reject::PlatformCertificateHolder),
        (
            |said| said.validity[1] = "400101000000Z".into(),
            Reject::PlatformCertificateMalformed,
        ),
    ];
    let makers = Makers::new();
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(makers.certificate(change), Err(expected), "case {number}");
    }
    assert!(makers.certificate(|said| said.kinds.clear()).is_ok());
    let named = makers.certificate(|said| said.beside = element(0xa1, &[&[]]));
    assert_eq!(named.unwrap().check_holder(&makers.ek), Ok(()));
    let long = vec![0x30; 64 * 1024];
    assert_eq!(PlatformCertificate::parse(&long), Err(Reject::TooLarge));
}

#[test]
fn bytes_that_are_cut_or_longer_are_no_certificate() {
    let makers = Makers::new();
    let der = makers.said(|_| ()).signed_by(&makers.root);
    for length in 0..der.len() {
        let cut = PlatformCertificate::parse(&der[..length]);
        assert_eq!(cut, Err(Reject::PlatformCertificateMalformed), "{length}");
    }
    let longer = PlatformCertificate::parse(&[&der[..], &[0]].concat());
    assert_eq!(longer, Err(Reject::PlatformCertificateMalformed));
}

#[test]
fn no_bit_of_a_certificate_may_change() {
    let makers = Makers::new();
    let der = makers.said(|_| ()).signed_by(&makers.root);
    let roots = roots(&[&makers.root]);
    for bit in 0..der.len() * 8 {
        let mut changed = der.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verified =
            PlatformCertificate::parse(&changed).and_then(|certificate| roots.verify(certificate, NOW));
        assert!(verified.is_err(), "bit {bit}");
    }
}

#[test]
fn only_the_operators_roots_say_which_tpm_is_in_a_machine() {
    let makers = Makers::new();
    let der = makers.said(|_| ()).signed_by(&makers.root);
    check(&roots(&[&makers.root]), &der, Ok(()));
    check(&roots(&[]), &der, Err(Reject::PlatformChainUnknown));
    let [other, namesake] = ["others", "machines"].map(|name| Ca::root(name, UNCHANGED));
    check(&roots(&[&other]), &der, Err(Reject::PlatformChainUnknown));
    check(&roots(&[&namesake]), &der, Err(Reject::PlatformChainSignature));
    check(&roots(&[&namesake, &makers.root]), &der, Ok(()));
}

#[test]
fn each_certificate_of_the_chain_is_valid_now() {
    let makers = Makers::new();
    let known = roots(&[&makers.root]);
    let ended = makers.said(|said| said.validity[1] = "20261121235959Z".into());
    check(
        &known,
        &ended.signed_by(&makers.root),
        Err(Reject::PlatformChainExpired),
    );
    let coming = makers.said(|said| said.validity[0] = "20261123000000Z".into());
    check(
        &known,
        &coming.signed_by(&makers.root),
        Err(Reject::PlatformChainExpired),
    );
    let old = Ca::root("machines", ENDED);
    let der = makers.said(|_| ()).signed_by(&old);
    check(&roots(&[&old]), &der, Err(Reject::PlatformChainExpired));
    let mut lenient = PlatformRoots::new(Expiry::Ignored);
    lenient.add(&old.der).unwrap();
    check(&lenient, &der, Ok(()));
    check(&lenient, &ended.signed_by(&old), Ok(()));
}

#[test]
fn who_signs_them_may_be_no_ca_and_has_to_be_known() {
    let makers = Makers::new();
    let signer = |change| makers.root.issue("signer", change);
    let said = |signer: &Ca| {
        makers
            .said(|said| said.issuer = "signer".into())
            .signed_by(signer)
    };
    let cases: [(Change, Result<(), Reject>); 4] = [
        (UNCHANGED, Ok(())),
        (
            |params| {
                params.is_ca = IsCa::ExplicitNoCa;
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            },
            Ok(()),
        ),
        (
            |params| {
                params.is_ca = IsCa::ExplicitNoCa;
                params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
            },
            Err(Reject::PlatformChainNotCa),
        ),
        (ENDED, Err(Reject::PlatformChainExpired)),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let signer = signer(change);
        let known = roots(&[&makers.root, &signer]);
        let certificate = PlatformCertificate::parse(&said(&signer)).unwrap();
        let verified = known.verify(certificate, NOW).map(drop);
        assert_eq!(verified, expected, "case {number}");
    }
    let unknown = said(&signer(UNCHANGED));
    check(
        &roots(&[&makers.root]),
        &unknown,
        Err(Reject::PlatformChainUnknown),
    );
    // Who is no CA has nobody sign for him.
    let no_ca = signer(|params| params.is_ca = IsCa::ExplicitNoCa);
    let below = no_ca.issue("below", UNCHANGED);
    let der = makers.said(|said| said.issuer = "below".into()).signed_by(&below);
    check(
        &roots(&[&makers.root, &no_ca, &below]),
        &der,
        Err(Reject::PlatformChainNotCa),
    );
}

#[test]
fn a_certificate_for_the_endorsement_key_itself_names_its_tpm() {
    let maker = Ca::root("machines", UNCHANGED);
    let key = rcgen::KeyPair::generate().unwrap();
    let change: Change = |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 2])];
        set_platform_names(params, &[(1, "Plastron"), (4, "Carapace 1"), (5, "1.0")]);
    };
    let der = maker.endorse(&key, change);
    let certificate = PlatformCertificate::parse(&der).unwrap();
    assert_eq!(certificate.chassis().to_string(), "Plastron Carapace 1");
    let tpms = Ca::root("tpms", UNCHANGED);
    let [ours, other] = [&key, &rcgen::KeyPair::generate().unwrap()]
        .map(|key| EkCertificate::parse(&tpms.endorse(key, UNCHANGED)).unwrap());
    assert_eq!(certificate.check_holder(&ours), Ok(()));
    assert_eq!(
        certificate.check_holder(&other),
        Err(Reject::PlatformCertificateHolder)
    );
    check(&roots(&[&maker]), &der, Ok(()));
    check(&roots(&[&tpms]), &der, Err(Reject::PlatformChainUnknown));
    let endorsement = PlatformCertificate::parse(ours.as_der());
    assert_eq!(endorsement, Err(Reject::PlatformCertificateMalformed));
}

#[test]
fn weak_cas_vouch_for_nothing() {
    let weak = Ca::root_with(crate::fixtures::weak_key("roca.pem"));
    let makers = Makers::new();
    let said = makers.said(|said| said.issuer = "root".into());
    let der = said.signed_by(&weak);
    check(&roots(&[&weak]), &der, Err(Reject::PlatformChainWeak));
}

#[test]
fn signatures_with_sha1_count_for_nothing() {
    let mut roots = PlatformRoots::new(Expiry::Ignored);
    roots
        .add(&ek_certificate("platform/IntelSigningKey_20April2017.cer"))
        .unwrap();
    check(
        &roots,
        &ek_certificate("platform/Intel_pc2.cer"),
        Err(Reject::PlatformChainSignature),
    );
}
