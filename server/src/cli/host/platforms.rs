//! Folders of platform certificates, as makers of machines deliver them.

use std::path::Path;

use attest::ek::{Expiry, PlatformCertificate, PlatformHolder, PlatformRoots};
use proto::plastron::host::v1::{EndorsementKey, NewHost};

use super::{certificates, import::Delivery};
use crate::cli::{CommandError, verify};

/// A host for each file of `folder`, in the order of their names, called as its maker calls it, and known by the TPM that
/// he put in. Who signed it has to lead to `roots`, if there are any.
pub(super) fn read(
    folder: &Path,
    roots: Option<&Path>,
    policies: &[String],
) -> Result<Delivery, CommandError> {
    let roots = roots
        .map(|roots| verify::platform_roots(roots, Expiry::Enforced))
        .transpose()?;
    let now = verify::now();
    certificates::gather(folder, policies, |path| host_of(path, roots.as_ref(), now))
}

fn host_of(path: &Path, roots: Option<&PlatformRoots>, now: i64) -> Result<NewHost, String> {
    let der = certificates::der(path)?;
    let refused = |reject: attest::Reject| format!("{reject} ({})", reject.code());
    let certificate = PlatformCertificate::parse(&der).map_err(refused)?;
    let certificate = match roots {
        Some(roots) => roots.verify(certificate, now).map_err(refused)?.get().clone(),
        None => certificate,
    };
    let key = match certificate.holder() {
        PlatformHolder::Certificate(id) => EndorsementKey {
            issuer: id.issuer().into(),
            serial_number: hex::encode(id.serial()),
            ..EndorsementKey::default()
        },
        PlatformHolder::Key(hash) => EndorsementKey {
            hash: hash.to_string(),
            ..EndorsementKey::default()
        },
    };
    Ok(NewHost {
        // Its maker, its model, its number.
        name: certificate.chassis().to_string(),
        endorsement_keys: vec![key],
        ..NewHost::default()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Copies files of the machines and makers that we have certificates of.
    fn folder(files: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata/ek/platform");
        for file in files {
            fs::copy(testdata.join(file), folder.path().join(file)).unwrap();
        }
        folder
    }

    #[test]
    fn each_machine_is_known_by_the_tpm_that_its_maker_put_in() {
        let machines = folder(&["Intel_nuc1.cer", "lenovo.cer", "hirs-plat_delta_cert1.pem"]);
        let delivery = read(machines.path(), None, &["rack-7".into()]).unwrap();
        let said: Vec<_> = delivery
            .listed
            .iter()
            .map(|one| (&*one.host.name, &*one.host.endorsement_keys[0].serial_number))
            .collect();
        assert_eq!(
            said,
            [
                (
                    "Intel Corporation NUC7i5DNHE DW1600420300110_BTDN732000QM",
                    "7b076be4"
                ),
                (
                    "LENOVO 20L7002BUS PF0ZAQSW_L1HF7CS001A",
                    "1dbe16a4fc3109710ad21f2b350ffd17ba604c0c"
                ),
            ]
        );
        let host = &delivery.listed[1].host;
        let issuer = "C=CH,CN=STM TPM EK Intermediate CA 05,O=STMicroelectronics NV";
        assert_eq!(host.endorsement_keys[0].issuer, issuer);
        assert_eq!(host.policies, ["rack-7"]);
        let [(at, why)] = delivery.unusable.as_slice() else {
            panic!("{:?}", delivery.unusable);
        };
        assert!(at.ends_with("hirs-plat_delta_cert1.pem"), "{at}");
        assert!(why.contains("platform_certificate_delta"), "{why}");
    }

    #[test]
    fn with_roots_only_what_leads_there_is_a_host() {
        let machines = folder(&["Intel_nuc1.cer", "Intel_pc2.cer"]);
        let makers = folder(&["IntelSigningKey_20April2017.cer"]);
        let delivery = read(machines.path(), Some(makers.path()), &[]).unwrap();
        assert!(delivery.listed.is_empty(), "{:?}", delivery.listed);
        let why: Vec<_> = delivery.unusable.iter().map(|(_, why)| why.as_str()).collect();
        assert!(why[0].contains("platform_chain_unknown"), "{why:?}");
        assert!(why[1].contains("platform_chain_signature"), "{why:?}");
        let none = TempDir::new().unwrap();
        assert!(read(machines.path(), Some(none.path()), &[]).is_err());
    }
}
