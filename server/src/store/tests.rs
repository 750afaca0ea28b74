//! What every engine must do, and what the frame adds.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use proptest::{collection::vec, option, prelude::*};
use tempfile::TempDir;

use super::*;

const ENGINES: [EngineKind; 2] = EngineKind::ALL;

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
        let store = open(&folder, engine);
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
        let revision = store.revision();
        drop(store);
        let store = open(&folder, engine);
        assert_eq!(all(&store, "b/"), expected);
        assert_eq!(store.revision(), revision);
    }
}

#[test]
fn commits_all_of_a_batch_or_nothing() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        store.commit(batch(&[("a", Some("1"))])).unwrap();
        let revision = store.revision();
        let conditions = [
            Condition::Absent(b"a".to_vec()),
            Condition::Present(b"b".to_vec()),
        ];
        for (condition, named) in conditions.into_iter().zip([b"a", b"b"]) {
            let mut refused = batch(&[("a", Some("2")), ("b", Some("2"))]);
            refused.require(condition);
            let Err(StoreError::Conflict(key)) = store.commit(refused) else {
                panic!("it was committed");
            };
            assert_eq!(key, named);
            assert_eq!(
                all(&store, ""),
                [pairs(&[("a", "1")]), all(&store, "meta")].concat()
            );
        }
        assert_eq!(store.revision(), revision);
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
        let store = open(&folder, engine);
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

/// Another process, because engines may know of their own.
#[test]
fn a_second_process_is_told_so() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let _held = open(&folder, engine);
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args([
            "--exact",
            "store::tests::opens_the_folder_of_its_parent",
            "--ignored",
        ]);
        other
            .args(["--nocapture"])
            .env("PLASTRON_STORE_ENGINE", engine.name());
        let output = other.env("PLASTRON_STORE", folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("is in use; is another plastron-server running"),
            "{said}"
        );
        let error = Store::open(folder.path(), Config { engine }).unwrap_err();
        assert!(error.to_string().contains("is in use"), "{error}");
    }
}

#[test]
#[ignore = "the other process of `a_second_process_is_told_so`"]
fn opens_the_folder_of_its_parent() {
    let folder = std::env::var_os("PLASTRON_STORE").unwrap();
    let name = std::env::var("PLASTRON_STORE_ENGINE").unwrap();
    let engine = ENGINES.into_iter().find(|engine| engine.name() == name).unwrap();
    if let Err(error) = Store::open(Path::new(&folder), Config { engine }) {
        eprintln!("{error}");
    }
}

#[test]
fn the_lock_file_is_what_an_open_store_locks() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let held = open(&folder, engine);
        let file = || fs::File::open(folder.path().join(engine.lock_file())).unwrap();
        assert!(file().try_lock().is_err(), "{}", engine.name());
        drop(held);
        file().lock().unwrap();
    }
}

#[test]
fn the_files_of_the_other_engine_are_named() {
    for [first, second] in [ENGINES, [ENGINES[1], ENGINES[0]]] {
        let folder = TempDir::new().unwrap();
        drop(open(&folder, first));
        let error = Store::open(folder.path(), Config { engine: second }).unwrap_err();
        let said = error.to_string();
        let what = format!(
            "holds a store of engine {}, and {} is configured",
            first.name(),
            second.name()
        );
        let remedy = format!("set engine = \"{}\" in [store]", first.name());
        assert!(said.contains(&what) && said.contains(&remedy), "{said}");
        assert!(!folder.path().join(second.file_name()).exists());
    }
}

#[test]
fn a_flipped_bit_is_named() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let whole = frame::close(b"a/1", b"value");
        for at in 1..whole.len() {
            let mut framed = whole.clone();
            framed[at] ^= 1;
            let mut raw = Batch::default();
            raw.put(b"a/1".to_vec(), framed);
            store.engine.commit(&raw).unwrap();
            let error = store.get(b"a/1").unwrap_err();
            assert!(
                error.to_string().contains("`a/1` is damaged"),
                "byte {at}: {error}"
            );
        }
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

/// Wherever the file of an engine is damaged, no value is shown that was not written.
#[test]
fn damage_of_the_file_never_shows_as_another_value() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let value = "plastron ".repeat(40);
        for n in 0..64 {
            let key = format!("a/{n:02}");
            store
                .commit(batch(&[(key.as_str(), Some(value.as_str()))]))
                .unwrap();
        }
        drop(store);
        let path = folder.path().join(engine.lock_file());
        let whole = fs::read(&path).unwrap();
        let places: Vec<_> = whole
            .windows(value.len())
            .enumerate()
            .filter(|(_, found)| *found == value.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        let mut damaged = whole.clone();
        for at in &places {
            damaged[at + 100] ^= 1;
        }
        fs::write(&path, damaged).unwrap();
        // Either it does not open, or what it shows is what was written.
        let Ok(store) = Store::open(folder.path(), Config { engine }) else {
            continue;
        };
        for n in 0..64 {
            let found = store.get(format!("a/{n:02}").as_bytes());
            let is_true = !matches!(&found, Ok(Some(found)) if *found != value.as_bytes());
            assert!(is_true, "{found:?}");
        }
    }
}

#[test]
fn a_record_of_a_newer_format_is_no_damage() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let mut framed = frame::close(b"a", b"value");
        framed[0] = 2;
        let mut raw = Batch::default();
        raw.put(b"a".to_vec(), framed);
        store.engine.commit(&raw).unwrap();
        let error = store.get(b"a").unwrap_err();
        assert!(error.to_string().contains("record `a` has format 2"), "{error}");
    }
}

#[test]
fn batches_may_be_large() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let mut many = Batch::default();
        for n in 0..10_000u32 {
            many.put(n.to_be_bytes().to_vec(), vec![7; 100]);
        }
        store.commit(many).unwrap();
        // sled spills such a value to a file of its own.
        let mut long = Batch::default();
        long.put(b"long".to_vec(), vec![1; 3 * 1024 * 1024]);
        store.commit(long).unwrap();
        drop(store);
        let store = open(&folder, engine);
        let mut seen = 0u32;
        let first_zero = store.scan(&[0, 0], |key, value| {
            assert_eq!((key, value.len()), (&seen.to_be_bytes()[..], 100));
            seen += 1;
            Ok::<_, StoreError>(())
        });
        first_zero.unwrap();
        assert_eq!(seen, 10_000);
        let long = store.get(b"long").unwrap().unwrap();
        assert!(long.len() == 3 * 1024 * 1024 && long.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn what_is_too_large_is_refused_whole() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let check = |key: usize, value: usize, expected: &str| {
            let mut batch = batch(&[("first", Some("1"))]);
            batch.put(vec![b'k'; key], vec![0; value]);
            let error = store.commit(batch).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            MAX_KEY + 1,
            0,
            "a key, counted in bytes, has 4097, and 4096 is the limit",
        );
        check(1, MAX_VALUE + 1, "a value, counted in bytes, has 33554433");
        assert_eq!(store.get(b"first").unwrap(), None);
        let mut longest = Batch::default();
        longest.put(vec![b'k'; MAX_KEY], vec![1; 1024]);
        store.commit(longest).unwrap();
    }
}

#[test]
fn revisions_grow_by_one_and_are_never_given_twice() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let first = store.revision();
        let mut given: Vec<_> = std::thread::scope(|scope| {
            let commit = |n: usize| {
                let (store, key) = (&store, n.to_string());
                scope.spawn(move || {
                    let commit = |_| store.commit(batch(&[(key.as_str(), Some("1"))])).unwrap();
                    (0..8).map(commit).collect::<Vec<_>>()
                })
            };
            let writers: Vec<_> = (0..4).map(commit).collect();
            writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect()
        });
        given.sort_unstable();
        assert_eq!(given, (first + 1..=first + 32).collect::<Vec<_>>());
        store.skip_to(1000).unwrap();
        store.skip_to(10).unwrap();
        drop(store);
        let store = open(&folder, engine);
        assert_eq!(store.commit(batch(&[("a", Some("1"))])).unwrap(), 1001);
    }
}

#[test]
fn a_scan_sees_one_moment() {
    for engine in ENGINES {
        let folder = TempDir::new().unwrap();
        let store = open(&folder, engine);
        let write = |n: usize| {
            let mut batch = Batch::default();
            for key in 0..200 {
                batch.put(format!("a/{key:03}").into(), n.to_string().into());
            }
            store.commit(batch).unwrap();
        };
        write(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..30).for_each(write));
            while !writer.is_finished() {
                let seen = all(&store, "a/");
                assert_eq!(seen.len(), 200);
                assert!(seen.iter().all(|(_, value)| *value == seen[0].1), "{seen:?}");
            }
        });
    }
}

type Step = (Option<(u8, bool)>, Vec<(u8, Option<u8>)>, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let condition = option::of((0u8..12, any::<bool>()));
    let writes = vec((0u8..12, option::of(any::<u8>())), 0..6);
    vec((condition, writes, any::<bool>()), 1..12)
}

/// Every engine does what a sorted map in memory does, also when it is closed and opened in between.
fn does_as_a_map_does(engine: EngineKind, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder, engine);
    let mut model = BTreeMap::new();
    let key_of = |n: u8| format!("k/{n:02}").into_bytes();
    for (condition, writes, reopens) in steps {
        let mut batch = Batch::default();
        if let Some((n, present)) = condition {
            let wanted = [Condition::Absent, Condition::Present][usize::from(present)];
            batch.require(wanted(key_of(n)));
        }
        for (n, value) in &writes {
            match value {
                Some(value) => batch.put(key_of(*n), vec![*value; usize::from(*value) * 8]),
                None => batch.delete(key_of(*n)),
            }
        }
        let holds = condition.is_none_or(|(n, present)| model.contains_key(&key_of(n)) == present);
        prop_assert_eq!(store.commit(batch).is_ok(), holds);
        if holds {
            for (n, value) in writes {
                match value {
                    Some(value) => model.insert(key_of(n), vec![value; usize::from(value) * 8]),
                    None => model.remove(&key_of(n)),
                };
            }
        }
        if reopens {
            drop(store);
            store = open(&folder, engine);
        }
        let mut found = BTreeMap::new();
        let mut order = Vec::new();
        store
            .scan(b"k/", |key, value| {
                order.push(key.to_vec());
                found.insert(key.to_vec(), value.to_vec());
                Ok::<_, StoreError>(())
            })
            .unwrap();
        prop_assert!(order.is_sorted());
        prop_assert_eq!(&found, &model);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn redb_does_as_a_map_does(steps in steps()) {
        does_as_a_map_does(EngineKind::Redb, steps)?;
    }

    #[test]
    fn sled_does_as_a_map_does(steps in steps()) {
        does_as_a_map_does(EngineKind::Sled, steps)?;
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
fn a_newer_format_is_refused_and_says_what_reads_it() {
    let cases: [(&[u8], &str); 2] = [
        (b"\0\0\0\x020.9.0", "run plastron-server 0.9.0 or newer"),
        (b"\0\0\0\x02", "run the server that wrote it"),
    ];
    for engine in ENGINES {
        for (format, remedy) in cases {
            let folder = TempDir::new().unwrap();
            let store = open(&folder, engine);
            let mut newer = Batch::default();
            newer.put(b"meta/format".to_vec(), format.to_vec());
            store.commit(newer).unwrap();
            drop(store);
            let error = Store::open(folder.path(), Config { engine }).unwrap_err();
            assert!(matches!(error, StoreError::TooNew { found: 2, .. }), "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}
