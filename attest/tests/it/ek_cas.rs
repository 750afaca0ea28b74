//! Every CA certificate of vendors that we came by: whether it is one, and for whom it vouches as shipped.

use attest::ek::{CaCertificate, CaKey};

use crate::fixtures::{ca_certificate, ca_certificates, shipped};

/// A line for each: what it is, and which vendor's shipped file has its key.
const EXPECTED: &str = "\
Alibaba_Cloud_vTPM_EK.pem | not shipped
GS_TPM_RT.pem | root of STM
IFX1.pem | root of IFX
IFX15.pem | root of IFX
IFX2.pem | root of IFX
IFX3.pem | root of IFX
IFX4.pem | root of IFX
IFX5.pem | root of IFX
IFX8.pem | root of IFX
IFX_ECC_034.pem | below a root of IFX
IFX_ECC_042.pem | below a root of IFX
IFX_RSA_01I.pem | root of IFX
IFX_RSA_02I.pem | root of IFX
IFX_RSA_034.pem | below a root of IFX
IFX_RSA_03I.pem | root of IFX
IFX_RSA_042.pem | below a root of IFX
IFX_RSA_04I.pem | root of IFX
IFX_RSA_05I.pem | root of IFX
IFX_RSA_08I.pem | root of IFX
IFX_RSA_17I.pem | root of IFX
IFX_RSA_18I.pem | root of IFX
IFX_RSA_20I.pem | root of IFX
IFX_RSA_21I.pem | root of IFX
IFX_RSA_RT.pem | root of IFX
INF_ECC_010I.pem | below a root of IFX
INF_ECC_010RT.pem | root of IFX
INF_ECC_011.pem | below a root of IFX
INF_RSA_010I.pem | below a root of IFX
INF_RSA_010RT.pem | root of IFX
INF_RSA_011.pem | below a root of IFX
INF_RSA_022.pem | below a root of IFX
INTEL_I.pem | below a root of INTC
INTEL_RT.pem | root of INTC
NTC1.pem | root of NTC
NTC2.pem | root of NTC
NUVO_0100.pem | root of NTC
NUVO_1110.pem | root of NTC
NUVO_1111.pem | root of NTC
NUVO_2110.pem | root of NTC
NUVO_2111.pem | root of NTC
Nationz_TPM_EK.pem | root of NTZ
STM_ECC_01I.pem | below a root of STM
STM_ECC_01RT.pem | root of STM
STM_RSA_01I.pem | below a root of STM
STM_RSA_02I.pem | below a root of STM
STM_RSA_03I.pem | below a root of STM
STM_RSA_04I.pem | below a root of STM
STM_RSA_05I.pem | below a root of STM
STM_RSA_06I.pem | below a root of STM
STM_RSA_07I.pem | below a root of STM
STM_RSA_RT.pem | root of STM
gcp_ek_ak_ca_intermediate_v3.crt | not shipped
gcp_ek_ak_ca_root.crt | not shipped
gstpmroot.crt | root of STM
stmtpmekint02.crt | below a root of STM
stmtpmekroot.crt | root of STM
tpm_ek_intermediate_2.crt | not shipped
tpm_ek_intermediate_3.crt | not shipped
tpm_ek_root_1.cer | not shipped";

fn line(name: &str, roots: &[(String, CaKey)], intermediates: &[(String, CaKey)]) -> String {
    let certificate = match CaCertificate::parse(&ca_certificate(name)) {
        Ok(certificate) => certificate,
        Err(error) => return format!("{name} | {error}"),
    };
    let of = |keys: &[(String, CaKey)]| {
        let owner = keys.iter().find(|(_, key)| *key == certificate.key());
        owner.map(|(vendor, _)| vendor.clone())
    };
    let place = match (of(roots), of(intermediates)) {
        (Some(vendor), _) => format!("root of {vendor}"),
        (None, Some(vendor)) => format!("below a root of {vendor}"),
        (None, None) => "not shipped".into(),
    };
    format!("{name} | {place}")
}

#[test]
fn each_is_shipped_or_not() {
    let (roots, intermediates) = (shipped("roots"), shipped("intermediates"));
    let lines: Vec<_> = ca_certificates()
        .iter()
        .map(|name| line(name, &roots, &intermediates))
        .collect();
    assert_eq!(lines.join("\n"), EXPECTED);
}
