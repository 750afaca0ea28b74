//! Folders of endorsement certificates, as vendors and provisioning deliver them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use attest::ek::EkCertificate;
use proto::plastron::host::v1::{EndorsementKey, NewHost};

use super::import::Delivery;
use crate::cli::{CommandError, host_file::Listed};

/// Longest file in bytes: a certificate with all that vendors put around it.
const MAX_FILE: u64 = 64 * 1024;

/// A host for each file of `folder`, in the order of their names. A file that is no endorsement certificate is said, and
/// keeps no other from being read.
pub(super) fn read(folder: &Path, policies: &[String]) -> Result<Delivery, CommandError> {
    gather(folder, policies, host_of)
}

/// The same, of files that `host_of` reads.
pub(super) fn gather(
    folder: &Path,
    policies: &[String],
    host_of: impl Fn(&Path) -> Result<NewHost, String>,
) -> Result<Delivery, CommandError> {
    let mut delivery = Delivery::default();
    for path in files(folder)? {
        let at = path.display().to_string();
        match host_of(&path) {
            Ok(host) => {
                let policies = policies.to_vec();
                let host = NewHost { policies, ..host };
                delivery.listed.push(Listed { at, host });
            }
            Err(why) => delivery.unusable.push((at, why)),
        }
    }
    if delivery.listed.is_empty() && delivery.unusable.is_empty() {
        let folder = folder.display();
        return Err(CommandError::Input(format!("`{folder}` has no files")));
    }
    Ok(delivery)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |source| CommandError::File {
        path: folder.into(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The host that a certificate is of: known by the key itself, and by issuer and serial number.
fn host_of(path: &Path) -> Result<NewHost, String> {
    let name = path.file_stem().map(OsStr::to_string_lossy).unwrap_or_default();
    Ok(NewHost {
        name: name.into_owned(),
        endorsement_keys: vec![key_of(path)?],
        ..NewHost::default()
    })
}

/// The key that a certificate is for.
pub(super) fn key_of(path: &Path) -> Result<EndorsementKey, String> {
    let der = der(path)?;
    let certificate = EkCertificate::parse(&der).map_err(|reject| format!("{reject} ({})", reject.code()))?;
    let hash = certificate.key_hash().ok_or("is for no key that a TPM has")?;
    let id = certificate.id();
    Ok(EndorsementKey {
        hash: hash.to_string(),
        issuer: id.issuer().into(),
        serial_number: hex::encode(id.serial()),
        ..EndorsementKey::default()
    })
}

/// A certificate in DER, from a file that may have it in PEM.
pub(super) fn der(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("is longer than {MAX_FILE} bytes"));
    }
    let content = fs::read(path).map_err(|error| error.to_string())?;
    Ok(pem::parse(&content).map_or(content, pem::Pem::into_contents))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// The certificate of a real TPM, in PEM.
    fn captured() -> Vec<u8> {
        let file = "../attest/testdata/ek/keylime-st_sha256_with_rsa_der.pem";
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    #[test]
    fn each_file_is_a_host_that_is_called_as_it_is() {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
        write("db-1.der", pem::parse(captured()).unwrap().contents());
        write("db-2.pem", &captured());
        write("notes.txt", b"not a certificate");
        write("long", &vec![0; 70_000]);
        fs::create_dir(folder.path().join("old")).unwrap();
        let delivery = read(folder.path(), &["rack-7".into()]).unwrap();
        let names: Vec<_> = delivery.listed.iter().map(|one| one.host.name.as_str()).collect();
        assert_eq!(names, ["db-1", "db-2"]);
        let host = &delivery.listed[0].host;
        assert_eq!(host.endorsement_keys, delivery.listed[1].host.endorsement_keys);
        assert_eq!(host.policies, ["rack-7"]);
        let key = &host.endorsement_keys[0];
        assert_eq!(key.hash.len(), 64);
        assert!(!key.issuer.is_empty() && !key.serial_number.is_empty());
        let unusable: Vec<_> = delivery.unusable.iter().map(|(_, why)| why.as_str()).collect();
        assert!(unusable[0].contains("is longer than 65536 bytes"), "{unusable:?}");
        assert!(unusable[1].contains("ek_certificate_malformed"), "{unusable:?}");
    }

    #[test]
    fn a_folder_without_files_is_no_delivery() {
        let folder = TempDir::new().unwrap();
        assert!(read(folder.path(), &[]).is_err());
        assert!(read(&folder.path().join("none"), &[]).is_err());
    }
}
