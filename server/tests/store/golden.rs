//! Data directories as version 1 wrote them, under `testdata/`: a later server opens them. `cargo test -p server --test
//! store golden::makes -- --ignored` writes them anew, which is right only until the first release.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge::Clock;
use prost::Message;
use proto::{plastron::store::v1 as stored, spire::api::types};
use server::{
    journal::{Journal, JournalError, Record},
    registry::{Owner, Snapshot},
    store::{Batch, Config, EngineKind, Store, StoreError},
};
use svid::TrustDomain;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

use crate::writer;

#[test]
fn a_data_directory_of_version_1_is_read_and_written() {
    for engine in EngineKind::ALL {
        let folder = unpacked(engine);
        let snapshot = load(folder.path(), engine);
        assert_eq!(
            (
                snapshot.entries.len(),
                snapshot.agents.len(),
                snapshot.hosts.len(),
                snapshot.tokens.len()
            ),
            (1, 1, 1, 1)
        );
        let revision = snapshot.revision;
        let mut batch = Batch::default();
        batch.put(b"later".to_vec(), b"1".to_vec());
        let store = writer::open(folder.path(), engine);
        assert_eq!(store.commit(batch).unwrap(), revision + 1);
    }
}

#[test]
fn a_store_that_a_newer_server_wrote_is_refused() {
    for engine in EngineKind::ALL {
        let folder = unpacked(engine);
        let mut newer = Batch::default();
        newer.put(b"meta/format".to_vec(), b"\0\0\0\x020.7.0".to_vec());
        writer::open(folder.path(), engine).commit(newer).unwrap();
        let error = Store::open(folder.path(), Config { engine }).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::TooNew {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains("run plastron-server 0.7.0 or newer"),
            "{error}"
        );
    }
}

#[test]
fn an_audit_trail_that_a_newer_server_wrote_is_refused() {
    let folder = unpacked(EngineKind::Redb);
    let file = only_file(&folder.path().join("audit"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[7] = 2;
    fs::write(&file, bytes).unwrap();
    let error = Journal::open(folder.path().join("audit"), Clock::system()).unwrap_err();
    assert!(matches!(error, JournalError::TooNew { found: 2, .. }), "{error}");
    assert!(
        error.to_string().contains("run the server that wrote it"),
        "{error}"
    );
}

#[test]
#[ignore = "writes what the other tests read"]
fn makes() {
    for engine in EngineKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = writer::open(folder.path(), engine);
        store.commit(records()).unwrap();
        drop(store);
        let (journal, thread) = Journal::open(folder.path().join("audit"), Clock::system()).unwrap();
        let runtime = Runtime::new().unwrap();
        for n in 0..3 {
            let record = Record::new("svid_issued", &"spiffe://example.org/x").with("serial_num", &n);
            runtime.block_on(journal.append(vec![record])).unwrap();
        }
        drop(journal);
        thread.join().unwrap();
        fs::create_dir_all(packed(engine).parent().unwrap()).unwrap();
        fs::write(packed(engine), pack(folder.path())).unwrap();
    }
}

fn records() -> Batch {
    let entry = types::Entry {
        id: "8bc4a0cf".into(),
        spiffe_id: Some(id("/web")),
        parent_id: Some(id("/spire/agent/join_token/x")),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:1000".into(),
        }],
        ..types::Entry::default()
    };
    let agent = stored::Agent {
        path: "/spire/agent/join_token/x".into(),
        attestation_type: "join_token".into(),
        current: Some(stored::AgentSvid {
            serial: vec![1; 16],
            not_after: 2_000_000_000,
        }),
        ..stored::Agent::default()
    };
    let host = stored::Host {
        id: "one".into(),
        name: "rack 7".into(),
        enrolled: true,
        endorsement_keys: vec![stored::EndorsementKey {
            hash: vec![5; 32],
            ..stored::EndorsementKey::default()
        }],
        ..stored::Host::default()
    };
    let token = stored::JoinToken {
        expires_at: 2_000_000_000,
    };
    let mut batch = Batch::default();
    let entry = stored::Entry { entry: Some(entry) };
    batch.put(b"entry/8bc4a0cf".to_vec(), entry.encode_to_vec());
    batch.put(b"agent//spire/agent/join_token/x".to_vec(), agent.encode_to_vec());
    batch.put(b"host/one".to_vec(), host.encode_to_vec());
    batch.put([b"token/".as_slice(), &[1; 32]].concat(), token.encode_to_vec());
    batch
}

fn id(path: &str) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    }
}

/// What a server that starts on `folder` knows.
fn load(folder: &Path, engine: EngineKind) -> Arc<Snapshot> {
    let store = Arc::new(writer::open(folder, engine));
    let (journal, thread) = Journal::open(folder.join("audit"), Clock::system()).unwrap();
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let (publications, _receiver) = mpsc::channel(1);
    let (owner, registry) = Owner::load(store, journal, trust_domain, Clock::system(), publications).unwrap();
    drop(owner);
    thread.join().unwrap();
    registry.snapshot()
}

fn packed(engine: EngineKind) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    folder.join(format!("data-dir-1-{}.packed", engine.name()))
}

fn only_file(folder: &Path) -> PathBuf {
    fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

/// Engines begin with half a megabyte of zeros and more, so blocks that hold something are all that is kept. Of each
/// file or folder: length of the name, name, kind, length, then the blocks by offset, up to one of all ones.
fn pack(folder: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for path in walk(folder) {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
        out.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        out.extend(name.as_bytes());
        let content = path.is_file().then(|| fs::read(&path).unwrap());
        out.push(u8::from(content.is_some()));
        let content = content.unwrap_or_default();
        out.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        for (number, block) in content.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                out.extend(u32::try_from(number * BLOCK).unwrap().to_be_bytes());
                out.extend(block);
                out.resize(out.len() + BLOCK - block.len(), 0);
            }
        }
        out.extend(u32::MAX.to_be_bytes());
    }
    out
}

const BLOCK: usize = 64;

fn unpacked(engine: EngineKind) -> TempDir {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(packed(engine)).unwrap();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = number(&mut rest);
        let name = std::str::from_utf8(take(&mut rest, len)).unwrap();
        let is_file = take(&mut rest, 1) == [1];
        let mut content = vec![0; number(&mut rest)];
        loop {
            let at = number(&mut rest);
            if at == u32::MAX as usize {
                break;
            }
            let block = take(&mut rest, BLOCK);
            let end = content.len().min(at + BLOCK);
            content[at..end].copy_from_slice(&block[..end - at]);
        }
        let path = folder.path().join(name);
        if is_file {
            fs::write(path, content).unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
    }
    folder
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, back) = rest.split_at(len);
    *rest = back;
    front
}

fn number(rest: &mut &[u8]) -> usize {
    let bytes = take(rest, 4).try_into().unwrap();
    u32::from_be_bytes(bytes) as usize
}

/// Every file and folder below, folders before what is in them.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let below = path.is_dir().then(|| walk(&path));
        found.push(path);
        found.extend(below.into_iter().flatten());
    }
    found
}
