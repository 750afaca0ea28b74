//! What is read from certificates of real TPMs, and whether they lead to the roots of their makers.

use attest::{
    Reject,
    ek::{EkCertificate, EkRoots, Expiry},
};

use crate::fixtures::{ek_certificate, ek_certificates, ek_roots};

/// 2026-11-22.
const NOW: i64 = 1_795_305_600;

struct Case {
    name: &'static str,
    /// Manufacturer and model, or why it is no endorsement certificate.
    parsed: Result<(&'static str, &'static str), Reject>,
    /// Whether it leads to a root: first if ended certificates are accepted, then if they are not.
    leads: [Result<(), Reject>; 2],
}

const STM: &str = "id:53544D20";
/// Certificates that are refused when read lead nowhere.
const NOWHERE: [Result<(), Reject>; 2] = [Err(Reject::EkChainUnknown); 2];
/// Signed with SHA-1, and ended.
const SHA1: [Result<(), Reject>; 2] = [Err(Reject::EkChainSignature), Err(Reject::EkChainExpired)];

const CASES: &[Case] = &[
    // Three attributes in one relative name.
    Case {
        name: "guard-oss-inteltsc_test-0.pem",
        parsed: Ok(("id:4E544300", "NPCT75x")),
        leads: [Ok(()); 2],
    },
    Case {
        name: "guard-oss-tpm_test-0.pem",
        parsed: Ok((STM, "ST33HTPHAHD8")),
        leads: [Ok(()); 2],
    },
    // Its key is marked for OAEP alone, as those of the next ones are.
    Case {
        name: "hirs-ab21ccf2-tpmcert.pem",
        parsed: Ok((STM, "ST33ZP24PVSP")),
        leads: SHA1,
    },
    // With header and padding. Of a TPM 1.2, and signed with SHA-1.
    Case {
        name: "hirs-ek_cert_with_security_assertions.cer",
        parsed: Ok(("id:49465800", "SLB9635TT1.2")),
        leads: SHA1,
    },
    Case {
        name: "hirs-nuc-1_ek_cert_7_byte_header_removed.cer",
        parsed: Ok((STM, "ST33ZP24PVSP")),
        leads: SHA1,
    },
    Case {
        name: "hirs-nuc-1_tpmcert.pem",
        parsed: Ok((STM, "ST33ZP24PVSP")),
        leads: SHA1,
    },
    Case {
        name: "hirs-nuc-2_tpmcert.pem",
        parsed: Ok((STM, "ST33ZP24PVSP")),
        leads: SHA1,
    },
    // Of an attestation key, for TLS servers.
    Case {
        name: "keylime-iak_der.pem",
        parsed: Err(Reject::EkCertificateUsage),
        leads: NOWHERE,
    },
    // Of a device identity, for TLS servers.
    Case {
        name: "keylime-idevid_der.pem",
        parsed: Err(Reject::EkCertificateUsage),
        leads: NOWHERE,
    },
    Case {
        name: "keylime-st_ecdsa_sha256_der.pem",
        parsed: Ok((STM, "ST33HTPHAHB4")),
        leads: [Ok(()); 2],
    },
    Case {
        name: "keylime-st_sha256_with_rsa_der.pem",
        parsed: Ok((STM, "ST33HTPHAHB4")),
        leads: [Ok(()); 2],
    },
    // Of a CA.
    Case {
        name: "keylime-test_registrar_agent_cert_compliance-0.pem",
        parsed: Err(Reject::EkCertificateUsage),
        leads: NOWHERE,
    },
    // Of a CA.
    Case {
        name: "keylime-test_registrar_tpm_identity-0.pem",
        parsed: Err(Reject::EkCertificateUsage),
        leads: NOWHERE,
    },
    // From a CA for tests.
    Case {
        name: "paccor-TCG_EK_ecc_p384_Test.pem",
        parsed: Ok(("id:54535430", "ABCDEF123456")),
        leads: NOWHERE,
    },
    Case {
        name: "paccor-ek.cer",
        parsed: Ok((STM, "ST33ZP24PVSP")),
        leads: SHA1,
    },
    // Of a virtual TPM in a cloud: it names the machine, not the TPM.
    Case {
        name: "salrashid-tpm2-README-0.pem",
        parsed: Err(Reject::EkCertificateAttributes),
        leads: NOWHERE,
    },
    // Of version 1, which has no extensions.
    Case {
        name: "spire-tpm-plugin-tpm_attestor_test-0.pem",
        parsed: Err(Reject::EkCertificateAttributes),
        leads: NOWHERE,
    },
];

/// Platform certificates name an endorsement key, and are attribute certificates (RFC 5755).
const PLATFORM: &[Case] = &[
    // Of the CA that signs the others.
    Case {
        name: "platform/IntelSigningKey_20April2017.cer",
        parsed: Err(Reject::EkCertificateAttributes),
        leads: NOWHERE,
    },
    platform("platform/Intel_nuc1.cer"),
    platform("platform/Intel_nuc_pc.cer"),
    platform("platform/Intel_nuc_pc2.cer"),
    platform("platform/Intel_pc1.cer"),
    platform("platform/Intel_pc2.cer"),
    platform("platform/Intel_pc3.cer"),
    platform("platform/Intel_pc4.cer"),
    platform("platform/Intel_pc5.cer"),
    platform("platform/hirs-flawed_attribute_cert_2187.pem"),
    platform("platform/hirs-large_plat_cert.pem"),
    platform("platform/hirs-pciids_plat_cert_2-0.pem"),
    platform("platform/hirs-plat_base_cert1.pem"),
    platform("platform/hirs-plat_delta_cert1.pem"),
    platform("platform/lenovo.cer"),
    platform("platform/plat_cert1.cer"),
    platform("platform/plat_cert2.cer"),
    platform("platform/plat_cert3.cer"),
];

const fn platform(name: &'static str) -> Case {
    Case {
        name,
        parsed: Err(Reject::EkCertificateMalformed),
        leads: NOWHERE,
    }
}

fn check(case: &Case) {
    let name = case.name;
    let parsed = EkCertificate::parse(&ek_certificate(name));
    let of = |certificate: &EkCertificate| {
        let attributes = certificate.attributes();
        (attributes.manufacturer.clone(), attributes.model.clone())
    };
    let expected = case
        .parsed
        .map(|(manufacturer, model)| (manufacturer.into(), model.into()));
    assert_eq!(
        parsed.as_ref().map(of).map_err(|reject| *reject),
        expected,
        "{name}"
    );
    let Ok(certificate) = parsed else { return };
    for (expiry, expected) in [Expiry::Ignored, Expiry::Enforced].into_iter().zip(case.leads) {
        let verified = ek_roots(expiry).verify(certificate.clone(), &[], NOW);
        assert_eq!(verified.map(drop), expected, "{name}, expiry {expiry:?}");
    }
}

#[test]
fn reads_each_certificate_and_finds_its_root() {
    let named: Vec<_> = CASES.iter().chain(PLATFORM).map(|case| case.name).collect();
    assert_eq!(ek_certificates(), named, "the table names each certificate once");
    CASES.iter().chain(PLATFORM).for_each(check);
}

#[test]
fn without_roots_none_leads_anywhere() {
    let none = EkRoots::new(Expiry::Ignored);
    for case in CASES {
        let Ok(certificate) = EkCertificate::parse(&ek_certificate(case.name)) else {
            continue;
        };
        let verified = none.verify(certificate, &[], NOW).map(drop);
        assert_eq!(verified, Err(Reject::EkChainUnknown), "{}", case.name);
    }
}
