//! What every engine must do, and what the frame adds.

use tempfile::TempDir;

use super::*;

const ENGINES: &[EngineKind] = &[EngineKind::Redb];

fn open(folder: &TempDir, engine: EngineKind) -> Store {
    Store::open(folder.path(), Config { engine }).unwrap()
}

fn batch(writes: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put((*key).into(), (*value).into()),
            None => batch.delete((*key).into()),
        }
    }
    batch
}

fn all(store: &Store, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    store
        .scan(prefix.as_bytes(), |key, value| {
            found.push((text(key), text(value)));
            Ok::<_, StoreError>(())
        })
        .unwrap();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

#[test]
fn keeps_values_in_order_and_over_a_restart() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, *engine);
        store
            .commit(batch(&[
                ("b/2", Some("two")),
                ("b/1", Some("one")),
                ("c", Some("x")),
            ]))
            .unwrap();
        store
            .commit(batch(&[("b/1", Some("uno")), ("c", None), ("never", None)]))
            .unwrap();
        let expected = pairs(&[("b/1", "uno"), ("b/2", "two")]);
        assert_eq!(all(&store, "b/"), expected);
        assert_eq!(store.get(b"c").unwrap(), None);
        let revision = store.revision().unwrap();
        drop(store);
        let store = open(&folder, *engine);
        assert_eq!(all(&store, "b/"), expected);
        assert_eq!(store.revision().unwrap(), revision);
    }
}

#[test]
fn commits_all_of_a_batch_or_nothing() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, *engine);
        store.commit(batch(&[("a", Some("1"))])).unwrap();
        let revision = store.revision().unwrap();
        let conditions = [
            Condition::Absent(b"a".to_vec()),
            Condition::Present(b"b".to_vec()),
        ];
        for condition in conditions {
            let mut refused = batch(&[("a", Some("2")), ("b", Some("2"))]);
            refused.require(condition);
            assert!(matches!(store.commit(refused), Err(StoreError::Conflict(_))));
            assert_eq!(
                all(&store, ""),
                [pairs(&[("a", "1")]), all(&store, "meta")].concat()
            );
        }
        assert_eq!(store.revision().unwrap(), revision);
        let mut accepted = batch(&[("b", Some("2"))]);
        accepted.require(Condition::Present(b"a".to_vec()));
        accepted.require(Condition::Absent(b"b".to_vec()));
        assert_eq!(store.commit(accepted).unwrap(), revision + 1);
    }
}

#[test]
fn a_visit_may_stop_a_scan() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, *engine);
        store
            .commit(batch(&[("a/1", Some("")), ("a/2", Some("")), ("a/3", Some(""))]))
            .unwrap();
        let mut seen = 0;
        let stopped = store.scan(b"a/", |key, _| {
            seen += 1;
            if key == b"a/2" {
                Err(StoreError::Conflict(key.into()))
            } else {
                Ok(())
            }
        });
        assert!(matches!(stopped, Err(StoreError::Conflict(_))));
        assert_eq!(seen, 2);
    }
}

#[test]
fn a_second_process_is_told_so() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let _held = open(&folder, *engine);
        let error = Store::open(folder.path(), Config { engine: *engine }).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
    }
}

#[test]
fn a_flipped_bit_is_named() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, *engine);
        let mut framed = frame::close(b"a/1", b"value");
        framed[7] ^= 1;
        let mut raw = Batch::default();
        raw.put(b"a/1".to_vec(), framed);
        store.engine.commit(&raw).unwrap();
        let error = store.get(b"a/1").unwrap_err();
        assert!(error.to_string().contains("`a/1` is damaged"), "{error}");
        let scanned = store.scan(b"a/", |_, _| Ok::<_, StoreError>(()));
        assert!(matches!(
            scanned,
            Err(StoreError::Corrupt {
                source: FrameError::Checksum,
                ..
            })
        ));
    }
}

#[test]
fn frames_bind_value_and_key() {
    let framed = frame::close(b"a", b"value");
    assert_eq!(frame::open(b"a", &framed), Ok(b"value".as_slice()));
    assert_eq!(frame::open(b"b", &framed), Err(FrameError::Checksum));
    assert_eq!(frame::open(b"a", &framed[..4]), Err(FrameError::Truncated));
    assert_eq!(frame::open(b"a", &[]), Err(FrameError::Truncated));
    assert_eq!(frame::open(b"a", &[9, 0, 0, 0, 0]), Err(FrameError::Version(9)));
}

#[test]
fn a_newer_format_is_refused() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, *engine);
        let mut newer = Batch::default();
        newer.put(b"meta/format".to_vec(), 2u32.to_be_bytes().to_vec());
        store.commit(newer).unwrap();
        drop(store);
        let error = Store::open(folder.path(), Config { engine: *engine }).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 2, known: 1 }),
            "{error}"
        );
    }
}
