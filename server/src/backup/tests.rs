use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use edge::Clock;
use prost::Message;
use proto::{
    plastron::{backup::v1 as stored, store::v1 as kept},
    spire::api::types,
};
use svid::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::{
    journal::Journal,
    store::{Batch, Config, EngineKind, Store},
};

const KEYS: &[u8] = br#"{"version":1,"keys":{}}"#;

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn id(path: &str) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    }
}

fn entry(revision: i64) -> Vec<u8> {
    let entry = types::Entry {
        id: "web".into(),
        spiffe_id: Some(id("/web")),
        parent_id: Some(id("/node")),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        revision_number: revision,
        ..types::Entry::default()
    };
    kept::Entry { entry: Some(entry) }.encode_to_vec()
}

fn agent(host_id: &str, banned: bool) -> Vec<u8> {
    let agent = kept::Agent {
        path: format!("/spire/agent/{host_id}{banned}"),
        current: Some(kept::AgentSvid::default()),
        host_id: host_id.into(),
        banned,
        ..kept::Agent::default()
    };
    agent.encode_to_vec()
}

fn token_key() -> Vec<u8> {
    [b"token/".as_slice(), &[1; 32]].concat()
}

/// A backup of a server with one record of each kind.
fn taken() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let keys_path = folder.path().join("keys.json");
    fs::write(&keys_path, KEYS).unwrap();
    let config = Config {
        engine: EngineKind::Redb,
    };
    let store = Store::open(folder.path(), config).unwrap();
    let mut batch = Batch::default();
    batch.put(b"entry/web".to_vec(), entry(3));
    batch.put(b"agent/tpm".to_vec(), agent("one", false));
    batch.put(b"agent/banned".to_vec(), agent("one", true));
    batch.put(b"agent/token".to_vec(), agent("", false));
    batch.put(
        token_key(),
        kept::JoinToken {
            expires_at: 2_000_000_000,
        }
        .encode_to_vec(),
    );
    let authorities = kept::Authorities {
        sequence: 7,
        ..kept::Authorities::default()
    };
    batch.put(b"authorities".to_vec(), authorities.encode_to_vec());
    store.commit(batch).unwrap();
    let (journal, thread) = Journal::open(folder.path().join("audit"), Clock::system()).unwrap();
    let source = Source {
        store: Arc::new(store),
        journal,
        keys_path: Some(keys_path),
        data_dir: folder.path().into(),
        trust_domain: trust_domain(),
        clock: Clock::system(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut spool = runtime.block_on(source.take("tester")).unwrap();
    thread.join().unwrap();
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut spool.file, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, spool.len);
    bytes
}

fn target(folder: &TempDir, engine: EngineKind, force: bool) -> Target {
    let data_dir = folder.path().join("data");
    Target {
        keys_path: Some(data_dir.join("keys.json")),
        data_dir,
        trust_domain: trust_domain(),
        store: Config { engine },
        force,
        actor: "tester".into(),
        now: 1_700_000_000_000_000_000,
    }
}

fn file(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("backup");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn restores_to_either_engine_what_may_be_restored() {
    let bytes = taken();
    for engine in EngineKind::ALL {
        let folder = TempDir::new().unwrap();
        let target = target(&folder, engine, false);
        let restored = restore(&file(&folder, &bytes), &target, |_, _| {}).unwrap();
        assert_eq!((restored.must_attest, restored.void_tokens), (1, 1));
        assert_eq!(
            (restored.revision, restored.records, restored.has_keys),
            (2, 4, true)
        );
        let store = Store::open(&target.data_dir, target.store).unwrap();
        let is_there = |key: &[u8]| store.get(key).unwrap().is_some();
        assert!(is_there(b"agent/token") && is_there(b"agent/banned"));
        assert!(!is_there(b"agent/tpm") && !is_there(&token_key()));
        let renewed = kept::Entry::decode(store.get(b"entry/web").unwrap().unwrap().as_slice()).unwrap();
        assert_eq!(renewed.entry.unwrap().revision_number, 3 + (1 << 24));
        let authorities = store.get(b"authorities").unwrap().unwrap();
        let authorities = kept::Authorities::decode(authorities.as_slice()).unwrap();
        assert_eq!(authorities.sequence, 7 + (1 << 24));
        assert_eq!(store.revision(), 2 + (1 << 40));
        let keys = fs::metadata(target.data_dir.join("keys.json")).unwrap();
        assert_eq!(keys.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(target.data_dir.join("keys.json")).unwrap(), KEYS);
        check_unfinished(&target.data_dir).unwrap();
    }
}

#[test]
fn the_audit_trail_goes_on_with_numbers_that_were_never_given() {
    let folder = TempDir::new().unwrap();
    let target = target(&folder, EngineKind::Redb, false);
    restore(&file(&folder, &taken()), &target, |_, _| {}).unwrap();
    let audit = target.data_dir.join("audit");
    let (journal, thread) = Journal::open(audit, Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let head = runtime.block_on(journal.append_for_head(Vec::new())).unwrap();
    // One record was before the backup's end, and one says that it was restored.
    assert_eq!(head.next, 2 + (1 << 40) + 1);
    drop(journal);
    thread.join().unwrap();
}

#[test]
fn what_is_there_is_kept_or_moved_aside() {
    let folder = TempDir::new().unwrap();
    let backup = file(&folder, &taken());
    let gentle = target(&folder, EngineKind::Redb, false);
    restore(&backup, &gentle, |_, _| {}).unwrap();
    let error = restore(&backup, &gentle, |_, _| {}).unwrap_err();
    assert!(
        error.to_string().contains("is not empty; empty it, or have"),
        "{error}"
    );
    let forced = target(&folder, EngineKind::Sled, true);
    let aside = restore(&backup, &forced, |_, _| {}).unwrap().moved_to.unwrap();
    for name in ["store.redb", "keys.json", "audit"] {
        assert!(aside.join(name).exists(), "{name}");
    }
    assert!(!forced.data_dir.join("store.redb").exists());
    Store::open(&forced.data_dir, forced.store).unwrap();
}

#[test]
fn a_server_that_runs_is_left_alone() {
    for engine in EngineKind::ALL {
        let folder = TempDir::new().unwrap();
        let target = target(&folder, engine, true);
        fs::create_dir(&target.data_dir).unwrap();
        let _held = Store::open(&target.data_dir, target.store).unwrap();
        let error = restore(&file(&folder, &taken()), &target, |_, _| {}).unwrap_err();
        assert!(matches!(error, RestoreError::Running(_)), "{error}");
    }
}

#[test]
fn a_restore_that_was_interrupted_is_said_and_taken_up() {
    let folder = TempDir::new().unwrap();
    let target = target(&folder, EngineKind::Redb, true);
    fs::create_dir(&target.data_dir).unwrap();
    fs::write(target.data_dir.join("restore.unfinished"), "").unwrap();
    fs::create_dir(target.data_dir.join(".restoring-x")).unwrap();
    let error = check_unfinished(&target.data_dir).unwrap_err();
    assert!(
        error.to_string().contains("run `plastron-server restore` again"),
        "{error}"
    );
    restore(&file(&folder, &taken()), &target, |_, _| {}).unwrap();
    check_unfinished(&target.data_dir).unwrap();
    assert!(!target.data_dir.join(".restoring-x").exists());
}

/// Every bit that is flipped, and every byte that is missing or too much, shows; and nothing is changed then.
#[test]
fn damage_anywhere_is_refused_by_name() {
    let bytes = taken();
    let read = |bytes: &[u8]| {
        let (mut reader, _) = Reader::open(bytes)?;
        loop {
            if let Part::End(_) = reader.next()? {
                return Ok::<_, FileError>(());
            }
        }
    };
    read(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(read(&damaged).is_err(), "byte {at}");
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(read(&[bytes.as_slice(), b"x"].concat()).is_err());

    let folder = TempDir::new().unwrap();
    let target = target(&folder, EngineKind::Redb, false);
    let cut = file(&folder, &bytes[..bytes.len() - 1]);
    let error = restore(&cut, &target, |_, _| {}).unwrap_err();
    let said = edge::Chain(&error).to_string();
    assert!(
        said.contains("backup`") && said.contains("damaged or cut short at byte"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&target.data_dir).unwrap().count(), 0);
}

#[test]
fn what_is_newer_or_of_another_is_refused() {
    let header = |store_format, trust_domain: &str| stored::Header {
        created_at: 1,
        server_version: "0.9.0".into(),
        trust_domain: trust_domain.into(),
        store_format,
    };
    let written = |header| Writer::new(Vec::new(), header).unwrap().end(1).unwrap().0;
    let check = |bytes: &[u8], expected: &str| {
        let folder = TempDir::new().unwrap();
        let target = target(&folder, EngineKind::Redb, false);
        let error = restore(&file(&folder, bytes), &target, |_, _| {}).unwrap_err();
        let said = edge::Chain(&error).to_string();
        assert!(said.contains(expected), "{said}");
    };
    check(
        &written(header(2, "example.org")),
        "run plastron-server 0.9.0 or newer",
    );
    check(
        &written(header(1, "elsewhere.org")),
        "is of trust domain elsewhere.org",
    );
    let mut newer = written(header(1, "example.org"));
    newer[7] = 2;
    check(&newer, "backup has format 2, and this server knows 1 at most");
    check(b"something else", "no backup of plastron-server");
}
