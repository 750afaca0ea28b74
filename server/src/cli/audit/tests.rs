use edge::Clock;
use proto::plastron::store::v1::AuditRecord;
use tempfile::TempDir;

use super::{filter::Field, *};
use crate::journal::{Journal, Record};

/// 2026-11-22T00:00:00Z and so many hours.
fn hour(hours: u64) -> Timestamp {
    Timestamp::from_unix(1_795_305_600).plus(Duration::from_secs(3600 * hours))
}

const AGENT: &str = "spiffe://td/spire/agent/tpm/ab";

/// One record an hour, as a server makes them.
fn trail() -> TempDir {
    let svid = |serial: u32, id: &str| {
        let record = Record::new("svid_issued", &AGENT).with("entry_id", &id);
        record
            .with("serial_num", &serial)
            .with("spiffe_id", &"spiffe://td/web")
    };
    let entry = |event, id: &str, actor: &str| {
        let record = Record::new(event, &actor).with("entry_id", &id);
        record.with("selectors", &"unix:uid:7")
    };
    let host = |event, ek: &str| {
        let record = Record::new(event, &"local uid=0 pid=3").with("host_id", &"row");
        record.with("host_name", &"rack7").with("ek_hash", &ek)
    };
    let attested = |serial: u32| {
        let record = Record::new("agent_attested", &AGENT).with("serial_num", &serial);
        record.with("host_id", &"row").with("caller_addr", &"10.0.0.1:5")
    };
    written(vec![
        host("host_enrolled", ""),
        entry("entry_created", "web", "local uid=0 pid=4"),
        entry("entry_created", "db", "spiffe://td/admin"),
        host("host_keys_changed", "ek1"),
        attested(1),
        svid(255, "web"),
        entry("entry_updated", "web", "spiffe://td/admin"),
        svid(256, "web"),
        entry("entry_updated", "web", "spiffe://td/later"),
        attested(2),
        Record::new("svid_minted", &"local uid=0 pid=9").with("serial_num", &257),
    ])
}

fn written(records: Vec<Record>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _context = runtime.enter();
    for (hours, record) in records.into_iter().enumerate() {
        let clock = Clock::pinned(hour(hours as u64));
        let (journal, thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
        runtime.block_on(journal.append(vec![record])).unwrap();
        drop(journal);
        thread.join().unwrap();
    }
    folder
}

fn place(folder: &TempDir) -> Place {
    Place {
        config: "/nonexistent".into(),
        data_dir: Some(folder.path().into()),
    }
}

/// The numbers of the records that meet `filters`.
fn check(folder: &TempDir, filters: Filters, expected: &[u64]) {
    let asked = format!("{filters:?}");
    let filter = Filter::of(filters, hour(10)).unwrap();
    let mut found = Vec::new();
    each(&mut place(folder).open().unwrap(), |entry| {
        if filter.takes(&entry.record) {
            found.push(entry.record.sequence);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(found, expected, "{asked}");
}

fn filters(words: &[&str]) -> Filters {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        filters: Filters,
    }
    let words = std::iter::once("query").chain(words.iter().copied());
    <Line as clap::Parser>::try_parse_from(words).unwrap().filters
}

#[test]
fn conditions_are_all_met() {
    let folder = trail();
    for (words, expected) in [
        (&[] as &[&str], &[1_u64, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] as &[u64]),
        (&["--event", "entry_created"], &[2, 3]),
        (&["--event", "svid"], &[]),
        (&["--actor", "spiffe://td/admin"], &[3, 7]),
        (
            &["--event", "entry_updated", "--actor", "spiffe://td/admin"],
            &[7],
        ),
        (&["--field", "entry_id=web"], &[2, 6, 7, 8, 9]),
        (&["--field", "entry_id=web", "--field", "serial_num=256"], &[8]),
        (&["--field", "unknown=web"], &[]),
        (&["--since", "2026-11-22T09:00:00Z"], &[10, 11]),
        (&["--until", "2026-11-22 01:00:00"], &[1]),
        (&["--since", "2h", "--until", "1h"], &[9]),
    ] {
        check(&folder, filters(words), expected);
    }
    let never = filters(&["--since", "1h", "--until", "2h"]);
    assert!(Filter::of(never, hour(10)).is_err());
    assert!("no equals sign".parse::<Field>().is_err());
}

#[test]
fn a_serial_number_leads_to_who_registered_it() {
    let folder = trail();
    let led = |serial: &str| lead(|| place(&folder).open(), &serial.parse().unwrap());
    let sequences = |serial: &str| {
        let json = led(serial).unwrap().json();
        let sequence = |name: &str| json[name]["sequence"].as_u64();
        [
            "issued",
            "entry_created",
            "entry_updated",
            "agent_attested",
            "host_enrolled",
            "host_keys",
        ]
        .map(sequence)
    };
    let first = [Some(6), Some(2), None, Some(5), Some(1), Some(4)];
    assert_eq!(sequences("255"), first);
    assert_eq!(sequences("0255"), first);
    assert_eq!(sequences("FF:"), first);
    assert_eq!(sequences("0xff"), first);
    assert_eq!(
        sequences("00:01:00"),
        [Some(8), Some(2), Some(7), Some(5), Some(1), Some(4)]
    );
    assert_eq!(sequences("257"), [Some(11), None, None, None, None, None]);
    assert!(matches!(led("9"), Err(CommandError::Input(_))));
    let said = led("256").unwrap().pretty();
    for words in [
        "2026-11-22T01:00:00Z by local uid=0 pid=4 (record 2)",
        "2026-11-22T06:00:00Z by spiffe://td/admin (record 7)",
        AGENT,
        "rack7",
        "ek1",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn what_a_peer_wrote_does_nothing_to_a_terminal() {
    for (text, expected) in [
        ("plain:1", "plain:1"),
        ("", "\"\""),
        ("two words", "\"two words\""),
        ("\x1b[2J\n", "\"\\u{1b}[2J\\n\""),
        ("a=b", "\"a=b\""),
    ] {
        assert_eq!(show::word(text), expected);
    }
}

#[test]
fn verify_ends_at_a_flipped_byte_and_queries_before_a_torn_end() {
    let folder = trail();
    let verify = || {
        let verify = Verify {
            output: Output::Json,
            place: place(&folder),
        };
        verify.execute()
    };
    verify().unwrap();
    let path = folder.path().join("audit/00000000000000000001.journal");
    let good = std::fs::read(&path).unwrap();

    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    let error = verify().unwrap_err().to_string();
    assert!(
        error.starts_with("record 11 ") && error.ends_with("the file ends in it"),
        "{error}"
    );
    check(&folder, filters(&["--since", "1h"]), &[10]);

    let mut bad = good;
    bad[60] ^= 1;
    std::fs::write(&path, bad).unwrap();
    let error = verify().unwrap_err().to_string();
    assert!(
        error.contains("record 1 in") && error.contains("at byte 48"),
        "{error}"
    );
}

#[test]
fn an_exported_line_has_everything() {
    let entry = Entry {
        record: AuditRecord {
            sequence: 7,
            at: 1_500_000_000,
            event: "e".into(),
            actor: "a".into(),
            fields: Vec::new(),
        },
        hash: [0xab; 32],
    };
    let json = show::json(&entry);
    assert_eq!(json["at"], "1970-01-01T00:00:01.500000000Z");
    assert_eq!(json["hash"], "ab".repeat(32));
    assert_eq!(json["sequence"], 7);
}
