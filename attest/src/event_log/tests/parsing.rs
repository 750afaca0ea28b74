//! Logs that are read, and those that are refused.

use super::*;

fn refuses(log: &Builder, expected: Reject) {
    assert_eq!(log.parse().map(|log| log.events().count()), Err(expected));
}

fn counts(log: &Builder, expected: usize) {
    assert_eq!(log.parse().map(|log| log.events().count()), Ok(expected));
}

#[test]
fn reads_what_firmware_writes() {
    let log = Builder::agile(&ALL)
        .honest(8, IPL, b"one")
        .honest(9, IPL, b"two")
        .parse()
        .unwrap();
    assert_eq!(log.format(), Format::CryptoAgile);
    assert!(log.banks().eq(ALL));
    let events: Vec<_> = log
        .events()
        .map(|event| (event.index, event.pcr, event.data))
        .collect();
    assert_eq!(events, [(1, 8, &b"one"[..]), (2, 9, &b"two"[..])]);
    for event in log.events() {
        assert!(
            ALL.iter()
                .all(|alg| event.digests.of(*alg) == Some(&digest(*alg, event.data)))
        );
    }
}

#[test]
fn reads_a_legacy_log_as_sha1_alone() {
    let log = Builder::legacy().honest(4, IPL, b"one").parse().unwrap();
    assert_eq!(log.format(), Format::Legacy);
    assert!(log.banks().eq([HashAlg::Sha1]));
    let event = log.events().next().unwrap();
    assert_eq!((event.index, event.pcr, event.kind), (0, 4, IPL));
    assert_eq!(log.replay(HashAlg::Sha256), Err(Reject::LogBank(HashAlg::Sha256)));
}

#[test]
fn takes_only_an_informative_event_for_a_header() {
    let log = Builder::legacy().honest(4, IPL, &spec_id(&[(0x000b, 32)], &[]));
    assert_eq!(log.parse().unwrap().format(), Format::Legacy);
    counts(&log, 1);
}

#[test]
fn skips_digests_of_unknown_banks_by_their_size() {
    const SM3: u16 = 0x0012;
    let mut log = Builder::agile(SHA256);
    log.bytes = header(&spec_id(&[(SM3, 32), (0x000b, 32)], b"vendor"));
    let digests = [(SM3, vec![9; 32]), (0x000b, vec![1; 32])];
    let log = log.raw(0, IPL, &digests, b"").parse().unwrap();
    assert!(log.banks().eq([HashAlg::Sha256]));
    let event = log.events().next().unwrap();
    assert!(event.digests.iter().eq([(HashAlg::Sha256, &[1; 32][..])]));
}

#[test]
fn ends_where_the_buffer_is_not_written() {
    for log in [
        Builder::agile(SHA256).honest(4, IPL, b"one\0"),
        Builder::legacy().honest(4, IPL, b"one\0"),
    ] {
        let bytes = log.bytes.clone();
        counts(&log.bytes(&[0; 4096]), 1);
        for padding in [&[0; 3][..], &[0xff; 3], &[0xff; 4096]] {
            let padded = Builder {
                bytes: bytes.clone(),
                banks: Vec::new(),
            }
            .bytes(padding);
            counts(&padded, 1);
        }
        refuses(
            &Builder {
                bytes,
                banks: Vec::new(),
            }
            .bytes(&[0, 0, 1]),
            Reject::LogMalformed,
        );
    }
}

#[test]
fn refuses_what_is_cut_short() {
    let log = Builder::agile(&ALL).honest(4, IPL, b"one");
    let whole = log.bytes.len();
    for len in (0..whole).filter(|len| *len != header(&spec_id(&[(0, 0); 4], &[])).len()) {
        let bytes = log.bytes[..len].to_vec();
        refuses(
            &Builder {
                bytes,
                banks: Vec::new(),
            },
            Reject::LogMalformed,
        );
    }
}

#[test]
fn refuses_headers_that_lie() {
    let check = |sizes: &[(u16, u16)], expected| {
        let bytes = header(&spec_id(sizes, &[]));
        refuses(
            &Builder {
                bytes,
                banks: Vec::new(),
            },
            expected,
        );
    };
    check(&[], Reject::LogMalformed);
    check(&[(0x000b, 20)], Reject::LogMalformed);
    check(&[(0x000b, 32), (0x000b, 32)], Reject::LogMalformed);
    check(&[(0x0012, 0)], Reject::LogMalformed);
    check(&[(0x0012, 65)], Reject::LogMalformed);
    check(&[(0x000b, 32); 9], Reject::LogLimit);

    let mut vendor = spec_id(&[(0x000b, 32)], b"vendor");
    vendor.pop();
    refuses(
        &Builder {
            bytes: header(&vendor),
            banks: Vec::new(),
        },
        Reject::LogMalformed,
    );
    vendor.extend(*b"r and more");
    refuses(
        &Builder {
            bytes: header(&vendor),
            banks: Vec::new(),
        },
        Reject::LogMalformed,
    );
}

#[test]
fn refuses_digests_that_no_bank_has() {
    let sha256 = (0x000b, vec![1; 32]);
    let both = || Builder::agile(&[HashAlg::Sha1, HashAlg::Sha256]);
    refuses(
        &both().raw(0, IPL, &[sha256.clone(), sha256.clone()], b""),
        Reject::LogBanks(1),
    );
    refuses(
        &both().raw(0, IPL, &[sha256.clone(), (0x000c, vec![1; 48])], b""),
        Reject::LogMalformed,
    );
    refuses(&both().raw(0, IPL, &vec![sha256; 3], b""), Reject::LogMalformed);
}

#[test]
fn refuses_registers_that_no_tpm_has() {
    counts(&Builder::agile(SHA256).honest(23, IPL, b""), 1);
    refuses(&Builder::agile(SHA256).honest(24, IPL, b""), Reject::LogMalformed);
    refuses(
        &Builder::agile(SHA256).honest(256, IPL, b""),
        Reject::LogMalformed,
    );
    // So tboot says how it maps PCRs; of any other one that says nothing.
    let mapping = EventKind(0x401);
    counts(
        &Builder::agile(SHA256)
            .honest(255, mapping, b"")
            .honest(4, mapping, b""),
        1,
    );
    refuses(
        &Builder::agile(SHA256).honest(255, IPL, b""),
        Reject::LogMalformed,
    );
    refuses(
        &Builder::agile(SHA256).honest(254, mapping, b""),
        Reject::LogMalformed,
    );
    // Windows ends its logs so.
    counts(
        &Builder::agile(SHA256).honest(u32::MAX, EventKind::NO_ACTION, b""),
        0,
    );
}

#[test]
fn refuses_what_is_larger_than_any_real_log() {
    let data = vec![1; EventLog::MAX_DATA];
    counts(&Builder::agile(SHA256).honest(4, IPL, &data), 1);
    let data = vec![1; EventLog::MAX_DATA + 1];
    refuses(&Builder::agile(SHA256).honest(4, IPL, &data), Reject::LogLimit);

    let bytes = vec![1; EventLog::MAX_LEN + 1];
    refuses(
        &Builder {
            bytes,
            banks: Vec::new(),
        },
        Reject::LogLimit,
    );

    let many = |count| (0..count).fold(Builder::legacy(), |log, _| log.honest(4, IPL, b"x"));
    counts(&many(EventLog::MAX_EVENTS), EventLog::MAX_EVENTS as usize);
    refuses(&many(EventLog::MAX_EVENTS + 1), Reject::LogLimit);

    // A length that is not there is not reserved.
    let length = [&[4, 0, 0, 0, 13, 0, 0, 0][..], &[0; 20], &u32::MAX.to_le_bytes()].concat();
    refuses(
        &Builder::legacy().honest(4, IPL, b"x").bytes(&length),
        Reject::LogMalformed,
    );
}
