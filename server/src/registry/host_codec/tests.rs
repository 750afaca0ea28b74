use plugin_api::{PolicyJudgement, PolicyStanding};
use svid::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::{
    registry::{Draft, LoadError, Snapshot, codec},
    store::{Batch, Config, Store},
};

/// The public area of an attestation key: P-256, ECDSA with SHA-256.
pub(in crate::registry) fn ak(seed: u16) -> Public {
    let mut area = vec![0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72, 0x00, 0x00];
    area.extend([0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10]);
    for _ in ["x", "y"] {
        area.extend([0, 32]);
        area.extend([0; 30]);
        area.extend(seed.to_be_bytes());
    }
    Public::parse(&area).unwrap()
}

/// A row in which everything is said.
pub(in crate::registry) fn full() -> Host {
    let mut values = PcrValues::default();
    values.set(HashAlg::Sha256, 0, Digest::filled(1, HashAlg::Sha256));
    values.set(HashAlg::Sha384, 14, Digest::filled(2, HashAlg::Sha384));
    let mut extended = PcrValues::default();
    for alg in [HashAlg::Sha256, HashAlg::Sha384] {
        extended.set(alg, 10, Digest::filled(3, alg));
    }
    let certified = EnrolledEk {
        hash: Some(EkHash([3; 32])),
        certificate: Some(CertificateId::new("CN=ca, O=Acme, Inc.", &[0, 4])),
        is_certified: true,
        issuer_key: Some(CaKey([9; 32])),
        attributes: Some(TpmAttributes {
            manufacturer: "id:53544D20".into(),
            model: "ST33".into(),
            version: "id:00010102".into(),
        }),
        name: Some(ak(5).name()),
    };
    let zero = EnrolledEk {
        certificate: Some(CertificateId::new("CN=ca", &[0])),
        ..EnrolledEk::default()
    };
    Host {
        id: "full".into(),
        name: "db-1".into(),
        enrolment: Enrolment::Enrolled,
        endorsement_keys: vec![certified, zero],
        attestation_key: Some(ak(6)),
        created_at: Timestamp::from_unix(7),
        last_attested_at: Some(Timestamp::from_unix(8)),
        last_address: "10.0.0.1:9".into(),
        appraised: Some(Appraised {
            standing: Standing {
                clock: ClockInfo {
                    clock: u64::MAX,
                    reset_count: 10,
                    restart_count: 11,
                    safe: true,
                },
                firmware_version: 12,
            },
            selection: PcrSelection::standard(),
            pcr_digest: [14; 32],
            policy_generation: 15,
            policies: vec![PolicyStanding {
                name: "rack-7".parse().unwrap(),
                since: Timestamp::from_unix(18),
                judgements: vec![PolicyJudgement {
                    generation: "ab".repeat(32),
                    version: 2,
                    is_enforced: true,
                    differences: vec!["PCR 4: expected a, found b".into()],
                    more: 3,
                }],
            }],
            selectors: vec!["secure_boot:on".into()],
            event_log: Some(KnownLog {
                sha256: [13; 32],
                values,
                is_kept: true,
            }),
            kernel_list: Some(KernelList {
                progress: Progress::resumed(18, u64::MAX, &extended),
                bytes: 19,
                violations: 20,
            }),
        }),
        agent_path: Some("/spire/agent/tpm/x".into()),
        svid_key: Some(SvidKeyPlace::Tpm),
        policies: vec!["rack-7".parse().unwrap()],
        verdict: Verdict {
            finding: Finding::Quarantined(Offence {
                code: "log_mismatch".into(),
                difference: "PCR 4".into(),
            }),
            since: Timestamp::from_unix(16),
            generation: 17,
        },
        proposal: Some(Proposal {
            what: "release".into(),
            by: "local uid=0".into(),
            at: Timestamp::from_unix(20),
        }),
        alarm: Some(Alarm {
            code: "ek_of_other_host".into(),
            text: "two places".into(),
            at: Timestamp::from_unix(18),
            count: 19,
        }),
        revision: 1,
    }
}

fn bare() -> Host {
    Host {
        id: "bare".into(),
        name: String::new(),
        enrolment: Enrolment::Pending {
            expires_at: Timestamp::from_unix(14),
        },
        endorsement_keys: Vec::new(),
        attestation_key: None,
        last_attested_at: None,
        last_address: String::new(),
        appraised: None,
        agent_path: None,
        svid_key: None,
        policies: Vec::new(),
        ..full()
    }
}

fn without_log() -> Host {
    let appraised = full().appraised.map(|appraised| Appraised {
        event_log: None,
        kernel_list: None,
        ..appraised
    });
    Host {
        id: "without-log".into(),
        appraised,
        svid_key: Some(SvidKeyPlace::Unproven),
        ..bare()
    }
}

fn open(folder: &TempDir) -> Store {
    Store::open(folder.path(), Config::default()).unwrap()
}

fn load(store: &Store) -> Result<Snapshot, LoadError> {
    codec::load(store, TrustDomain::parse("td").unwrap())
}

#[test]
fn rows_come_back_from_the_store_as_they_were() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let mut draft = Draft::new(load(&store).unwrap(), Timestamp::from_unix(1));
    let gone = Host {
        id: "gone".into(),
        ..bare()
    };
    for host in [full(), bare(), without_log(), gone] {
        draft.put_host(host);
    }
    draft.remove_host("gone");
    store.commit(draft.finish().batch).unwrap();
    let loaded = load(&store).unwrap().hosts;
    let rows: Vec<_> = loaded.after("").map(|host| (**host).clone()).collect();
    assert_eq!(rows, [bare(), full(), without_log()]);
    assert_eq!(**loaded.with_ek(&EkHash([3; 32])).unwrap(), full());
    let id = CertificateId::new("O=Acme, Inc.,CN=ca", &[4]);
    assert_eq!(**loaded.with_certificate(&id).unwrap(), full());
    assert_eq!(**loaded.with_ak(&ak(6).name()).unwrap(), full());
}

#[test]
fn a_row_that_is_garbage_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let mut batch = Batch::default();
    batch.put(host_key("x"), vec![0xff; 9]);
    store.commit(batch).unwrap();
    match load(&store) {
        Err(LoadError::Record {
            key,
            source: CodecError::Decode(_),
        }) => assert_eq!(key, "host/x"),
        other => panic!("{other:?}"),
    }
}

/// A full row with one field made wrong is refused with `expected`.
fn check(change: impl FnOnce(&mut stored::Host), expected: WireError) {
    let mut record = stored::Host::decode(encode_host(&full()).as_slice()).unwrap();
    change(&mut record);
    match decode_host(&record.encode_to_vec()) {
        Err(CodecError::Tpm(error)) => assert_eq!(error, expected),
        other => panic!("{other:?}"),
    }
}

fn appraised(record: &mut stored::Host) -> &mut stored::Appraised {
    record.appraised.as_mut().unwrap()
}

fn list(record: &mut stored::Host) -> &mut stored::KernelList {
    appraised(record).kernel_list.as_mut().unwrap()
}

#[test]
fn fields_that_are_wrong_are_refused() {
    check(|row| row.attestation_key.truncate(20), WireError::Truncated);
    check(|row| row.attestation_key.push(0), WireError::Trailing);
    check(
        |row| row.endorsement_keys[0].hash.truncate(31),
        WireError::OutOfBounds,
    );
    check(
        |row| row.endorsement_keys[0].name.truncate(9),
        WireError::OutOfBounds,
    );
    check(
        |row| appraised(row).selection[0].pcrs = 1 << 24,
        WireError::OutOfBounds,
    );
    check(
        |row| appraised(row).selection[0].hash_alg = 0x1_000b,
        WireError::Unsupported,
    );
    check(|row| appraised(row).selection.clear(), WireError::OutOfBounds);
    check(|row| appraised(row).values[0].index = 256, WireError::OutOfBounds);
    check(
        |row| appraised(row).values[0].hash_alg = 0,
        WireError::Unsupported,
    );
    check(
        |row| appraised(row).values[0].digest.push(0),
        WireError::OutOfBounds,
    );
    check(|row| list(row).values[0].digest.push(0), WireError::OutOfBounds);
    check(|row| list(row).values[1].hash_alg = 0, WireError::Unsupported);
    check(
        |row| appraised(row).event_log_sha256.push(0),
        WireError::OutOfBounds,
    );
}

#[test]
fn rows_that_are_cut_never_panic() {
    let row = encode_host(&full());
    for len in 0..row.len() {
        let _either = decode_host(&row[..len]);
    }
}

/// What a row says of the host beside is for people, and for hosts that show something new.
#[test]
fn what_rounds_are_compared_with_is_small() {
    let both = [HashAlg::Sha256, HashAlg::Sha384];
    let mut extended = PcrValues::default();
    for alg in both {
        extended.set(alg, 10, Digest::filled(3, alg));
    }
    // The greatest numbers take most.
    let compared = |kernel_list| {
        let appraised = Appraised {
            standing: Standing {
                clock: ClockInfo {
                    clock: u64::MAX,
                    reset_count: u32::MAX,
                    restart_count: u32::MAX,
                    safe: true,
                },
                firmware_version: u64::MAX,
            },
            selection: "sha256:0-9,14+sha384:0-9,14".parse().unwrap(),
            pcr_digest: [14; 32],
            policy_generation: u64::MAX,
            policies: Vec::new(),
            selectors: Vec::new(),
            event_log: None,
            kernel_list,
        };
        ak(6).name().as_bytes().len() + encode_appraised(&appraised).encoded_len()
    };
    let list = KernelList {
        progress: Progress::resumed(u32::MAX, u64::MAX, &extended),
        bytes: u64::MAX,
        violations: u64::MAX,
    };
    // About 300 bytes are aimed at; BENCHMARKS.md has these figures.
    assert_eq!((compared(None), compared(Some(list))), (131, 269));
}

/// A host as most are: one certified endorsement key, both banks, a log on record, one policy that it meets.
#[test]
fn a_row_is_small() {
    let selection: PcrSelection = "sha256:0-9,14+sha384:0-9,14".parse().unwrap();
    let mut values = PcrValues::default();
    for (alg, pcrs) in selection.banks() {
        for pcr in pcrs.iter() {
            values.set(alg, pcr, Digest::filled(pcr, alg));
        }
    }
    let mut host = full();
    host.id = "6f9c0a1b-2c3d-4e5f-8a9b-0c1d2e3f4a5b".into();
    host.endorsement_keys.truncate(1);
    host.alarm = None;
    host.proposal = None;
    host.verdict.finding = Finding::Verified;
    let appraised = host.appraised.as_mut().unwrap();
    appraised.selection = selection;
    appraised.event_log.as_mut().unwrap().values = values;
    appraised.policies[0].judgements[0].differences.clear();
    let size = encode_host(&host).len();
    assert!(
        (1024..2048).contains(&size),
        "{size} bytes: BENCHMARKS.md says 1.7 KB"
    );
}
