//! Certificates of TPMs and of the CAs of their makers: what each is, and whether it leads to a root.

use std::sync::LazyLock;

use attest::{
    Reject,
    ek::{
        CaCertificate, CaKey, EkCertificate, EkRoots, EndorsementKey, Expiry, PlatformCertificate,
        PlatformRoots,
    },
};

use super::Row;
use crate::{
    fixtures::{self, ca_certificate, ek_certificate, ek_roots, weak_key},
    tpm::Area,
};

/// 2026-11-23: a day after our own TPMs were made.
const NOW: i64 = 1_795_392_000;
/// The CA of the TPMs in software of our own boots.
const OWN: &str = "vm-swtpm-localca";

/// Roots as they are shipped: certificates that ended are refused, accepted, and accepted beside a CA of the operator's.
static ROOTS: LazyLock<[EkRoots; 3]> = LazyLock::new(|| {
    let [strict, lenient, mut own] = [Expiry::Enforced, Expiry::Ignored, Expiry::Ignored].map(ek_roots);
    let part = |part| CaCertificate::parse(&ca_certificate(&format!("{OWN}-{part}.pem"))).unwrap();
    own.add_root(part("root"));
    own.add_intermediate(part("intermediate"));
    [strict, lenient, own]
});

/// Vendors with the keys of their CAs, as they are shipped.
type Keys = Vec<(String, CaKey)>;

static SHIPPED: LazyLock<[Keys; 2]> = LazyLock::new(|| ["roots", "intermediates"].map(fixtures::shipped));

/// A certificate that might be an endorsement key's.
pub(super) fn endorsement(name: &str) -> Row {
    let certificate = match EkCertificate::parse(&ek_certificate(name)) {
        Ok(certificate) => certificate,
        Err(reject) => return Row::refused(reject),
    };
    let attributes = certificate.attributes();
    let mut says = format!("{} {}", attributes.manufacturer, attributes.model);
    let [strict, lenient, own] = ROOTS.each_ref().map(|roots| {
        let verified = roots.verify(certificate.clone(), &[], NOW);
        verified.err().map_or("accepted", Reject::code)
    });
    for (verdict, other, condition) in [
        (lenient, strict, "ended ones accepted"),
        (own, lenient, "its own CA trusted"),
    ] {
        if verdict != other {
            says.push_str(&format!("; {condition}: {verdict}"));
        }
    }
    Row {
        verdict: strict,
        ..Row::accepted(says, "")
    }
}

/// A certificate of a machine, or of who signs such. All who are here sign for the operator.
pub(super) fn platform(name: &str) -> Row {
    let der = ek_certificate(&format!("platform/{name}"));
    let certificate = match PlatformCertificate::parse(&der) {
        Ok(certificate) => certificate,
        Err(reject) => return Row::refused(reject),
    };
    let says = format!("{}; TPM of {}", certificate.chassis(), certificate.holder());
    let mut roots = PlatformRoots::new(Expiry::Enforced);
    roots
        .add(&ek_certificate("platform/IntelSigningKey_20April2017.cer"))
        .unwrap();
    let verified = roots.verify(certificate, NOW);
    Row {
        verdict: verified.err().map_or("accepted", Reject::code),
        ..Row::accepted(says, "")
    }
}

/// A CA of a vendor, and for whom it vouches as shipped.
pub(super) fn ca(name: &str) -> Row {
    let key = CaCertificate::parse(&ca_certificate(name)).unwrap().key();
    let vendor = |keys: &Keys| {
        let owner = keys.iter().find(|(_, shipped)| *shipped == key)?;
        Some(owner.0.clone())
    };
    let says = match SHIPPED.each_ref().map(vendor) {
        [Some(vendor), _] => format!("root of {vendor}"),
        [None, Some(vendor)] => format!("below a root of {vendor}"),
        [None, None] => "not shipped".into(),
    };
    Row::accepted(says, "")
}

/// A file of `roots`.
pub(super) fn shipped(name: &str) -> Row {
    let (vendor, kind) = name.strip_suffix(".pem").unwrap().split_once('-').unwrap();
    let keys = &SHIPPED[usize::from(kind != "roots")];
    let count = keys.iter().filter(|(of, _)| of == vendor).count();
    Row::accepted(format!("certificates: {count}"), "")
}

/// A key that anybody can factor, as a TPM would show it.
pub(super) fn weak(name: &str) -> Row {
    let parsed = EndorsementKey::parse(&Area::endorsement(&weak_key(name)).marshal());
    parsed.map_or_else(Row::refused, |_| Row::accepted("", ""))
}

#[test]
fn without_roots_none_leads_anywhere() {
    let none = EkRoots::new(Expiry::Ignored);
    for name in fixtures::ek_certificates() {
        let Ok(certificate) = EkCertificate::parse(&ek_certificate(&name)) else {
            continue;
        };
        let verified = none.verify(certificate, &[], NOW).map(drop);
        assert_eq!(verified, Err(Reject::EkChainUnknown), "{name}");
    }
}
