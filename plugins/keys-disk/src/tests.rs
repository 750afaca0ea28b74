use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("keys.json")
}

#[test]
fn keys_survive_a_restart_and_only_the_owner_reads_them() {
    let folder = TempDir::new().unwrap();
    let keys = DiskKeys::open(path(&folder)).unwrap();
    let made = keys.generate("x509-CA-A", KeyKind::EcP256).unwrap();
    keys.generate("gone", KeyKind::EcP384).unwrap();
    keys.remove("gone").unwrap();
    assert_eq!(
        fs::metadata(path(&folder)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let kept = DiskKeys::open(path(&folder)).unwrap().keys().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept["x509-CA-A"].public_key(), made.public_key());
}

fn refused(content: &[u8], mode: u32) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(path(&folder), content).unwrap();
    fs::set_permissions(path(&folder), fs::Permissions::from_mode(mode)).unwrap();
    match DiskKeys::open(path(&folder)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    assert!(refused(br#"{"version":1,"keys":{}}"#, 0o640).contains("may be read by others (mode 640)"));
}

#[test]
fn a_damaged_file_is_refused_without_being_shown() {
    for content in [
        &b"{"[..],
        br#"{"version":2,"keys":{}}"#,
        br#"{"version":1,"keys":{"a":"c2VjcmV0"}}"#,
    ] {
        let message = refused(content, 0o600);
        assert!(message.contains("is damaged"), "{message}");
        assert!(!message.contains("c2VjcmV0"), "{message}");
    }
}

#[test]
fn a_key_that_could_not_be_written_is_not_used() {
    let folder = TempDir::new().unwrap();
    let keys = DiskKeys::open(folder.path().join("missing").join("keys.json")).unwrap();
    assert!(keys.generate("a", KeyKind::EcP256).is_err());
    assert!(keys.keys().unwrap().is_empty());
}
