//! What verifiers take of memory at most, whatever they are given: some times the input, and a little. One test, since what
//! is counted is the process's.

#![expect(
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::sync::Arc;

use attest::{
    AttestationKey, HashAlg, PcrSet, Quote,
    ek::{CaCertificate, EkCertificate, EkRoots, EndorsementKey, Expiry},
    event_log::{EventLog, Measurements},
    ima::{Hashing, MeasurementList},
    report::LogReport,
    wire::{Attest, Public, Signature},
};
use peak_alloc::PeakAlloc;
use plugin_api::{Expect, NodeAttestor, NodeProver, SessionBinding, Step};
use prost::Message;
use proto::plastron::attest::v1 as wire;
use swtpm_tests::{
    KernelEntry,
    parties::{Machine, Server, WIRE, claim, event_log, path},
};

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const KB: usize = 1024;
const MB: usize = 1024 * KB;

type Run = Box<dyn Fn(&[u8])>;

/// A verifier, what it is given, and how often it may hold that, beside so many bytes.
struct Row {
    name: &'static str,
    inputs: Vec<Vec<u8>>,
    run: Run,
    times: usize,
    beside: usize,
}

fn row(
    name: &'static str,
    (times, beside): (usize, usize),
    inputs: Vec<Vec<u8>>,
    run: impl Fn(&[u8]) + 'static,
) -> Row {
    Row {
        name,
        inputs,
        run: Box::new(run),
        times,
        beside,
    }
}

/// What `run` holds at most.
fn peak_of(run: &dyn Fn(&[u8]), input: &[u8]) -> usize {
    // The first run fills what is kept for ever.
    run(input);
    let before = PEAK.current_usage();
    PEAK.reset_peak_usage();
    run(input);
    PEAK.peak_usage().saturating_sub(before)
}

#[test]
fn no_verifier_takes_more_memory_than_its_cap() {
    let rows = [keys(), certificates(), logs(), lists(), messages()];
    let mut failed = Vec::new();
    for row in rows.iter().flatten() {
        for (number, input) in row.inputs.iter().enumerate() {
            let (peak, cap) = (peak_of(&row.run, input), row.times * input.len() + row.beside);
            println!("{} {number}: {} bytes, {peak} of {cap}", row.name, input.len());
            if peak > cap {
                failed.push(format!("{} {number}: {peak} of {cap}", row.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// TPM structures: lengths and counts that are not there.
fn keys() -> Vec<Row> {
    let hostile = |front: &[u8]| {
        let full = |fill: u8| {
            let mut bytes = front.to_vec();
            bytes.resize(KB, fill);
            bytes
        };
        vec![full(0xff), full(0), [front, &[0xff; 8]].concat()]
    };
    let ecc = [0, 0x23, 0, 0x0b, 0, 5, 4, 0x72];
    let quote = [&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..], &[0; 4 + 17 + 8]].concat();
    vec![
        row("Public::parse", (4, KB), hostile(&ecc), |bytes| {
            let _parsed = (
                Public::parse(bytes),
                AttestationKey::parse(bytes),
                EndorsementKey::parse(bytes),
            );
        }),
        row("Attest::parse", (4, KB), hostile(&quote), |bytes| {
            let _parsed = (Attest::parse(bytes), Quote::parse(bytes, bytes));
        }),
        row(
            "Signature::parse",
            (4, KB),
            hostile(&[0, 0x18, 0, 0x0b]),
            |bytes| {
                let _parsed = Signature::parse(bytes);
            },
        ),
    ]
}

/// Certificates: lengths that are not there, and elements within elements.
fn certificates() -> Vec<Row> {
    let real = [
        include_bytes!("../../attest/testdata/ek/vm-master-ek-p384.der").to_vec(),
        include_bytes!("../../attest/testdata/ek/vm-master-ek-rsa2048.der").to_vec(),
    ];
    let mut inputs = vec![
        [0x30, 0x80].repeat(4 * KB),
        [0x30, 0x84, 0xff, 0xff, 0xff, 0xff].repeat(KB),
        nested(8 * KB),
        vec![0x31; 8 * KB],
    ];
    for good in &real {
        // Each length in turn says that there is much.
        let long = (0..good.len()).step_by(7).map(|at| {
            let mut long = good.clone();
            long.splice(at..=at, [0x84, 0xff, 0xff, 0xff, 0xff]);
            long
        });
        inputs.extend(long);
        inputs.push(good.clone());
    }
    vec![row("EkRoots::verify", (32, 64 * KB), inputs, |bytes| {
        let between: Vec<_> = CaCertificate::parse(bytes).into_iter().collect();
        let Ok(leaf) = EkCertificate::parse(bytes) else {
            return;
        };
        let _verified = EkRoots::new(Expiry::Ignored).verify(leaf, &between, 1_795_305_600);
    })]
}

/// Sequences, each in the one before.
fn nested(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() + 4 <= len {
        let rest = (len - bytes.len() - 4) as u16;
        bytes.extend([0x30, 0x82]);
        bytes.extend(rest.to_be_bytes());
    }
    bytes
}

/// The front of a log: its header, of one bank, or of so many.
fn header(banks: u32, is_true: bool) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    spec.extend(banks.to_le_bytes());
    if is_true {
        spec.extend([0x0b, 0, 32, 0, 0]);
    }
    let mut log = [&[0; 4][..], &[3, 0, 0, 0], &[0; 20]].concat();
    log.extend((spec.len() as u32).to_le_bytes());
    log.extend(spec);
    log
}

/// Events of PCR 4 with so much data each.
fn events(count: usize, data: usize) -> Vec<u8> {
    let mut log = header(1, true);
    for _ in 0..count {
        log.extend([4, 0, 0, 0, 0x0d, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0]);
        log.extend([7; 32]);
        log.extend((data as u32).to_le_bytes());
        log.extend(vec![b'\x07'; data]);
    }
    log
}

fn logs() -> Vec<Row> {
    let endless = [
        &events(1, 0)[..],
        &[4, 0, 0, 0, 0x0d, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let mut long = events(1, 8);
    let at = long.len() - 12;
    long.splice(at..at + 4, [0xff; 4]);
    let inputs = || {
        vec![
            events(16_000, 200),
            events(3, MB),
            events(16_000, 0),
            vec![0xff; 4 * MB],
            vec![0; 4 * MB],
            header(u32::MAX, false),
            endless.clone(),
            long.clone(),
            event_log(),
        ]
    };
    vec![
        row("EventLog::parse", (2, 16 * KB), inputs(), |bytes| {
            let _parsed = EventLog::parse(bytes);
        }),
        row("replay, Measurements", (3, 64 * KB), inputs(), |bytes| {
            let Ok(log) = EventLog::parse(bytes) else { return };
            let _replayed = log.replay(HashAlg::Sha256);
            let pcrs: PcrSet = (8..24).chain([4]).collect();
            if let Ok(measured) = Measurements::verify(log.clone(), HashAlg::Sha256, pcrs) {
                let _count = measured.of(4).map(Iterator::count);
            }
        }),
        // For a person, who is shown each event.
        row("LogReport::of", (20, 64 * KB), inputs(), |bytes| {
            let _report = LogReport::of(bytes, None);
        }),
    ]
}

fn lists() -> Vec<Row> {
    let small = KernelEntry::of_file("/usr/bin/true", &[7; 32]).bytes();
    let large = |template: &'static str, len: usize| {
        let field = [&(len as u32).to_le_bytes()[..], &vec![7; len]].concat();
        KernelEntry::of_fields(template, &field).bytes()
    };
    let mut endless = small.clone();
    endless.extend([10, 0, 0, 0]);
    endless.extend([0xff; 64]);
    let inputs = vec![
        small.repeat(20_000),
        large("d-ng", 200 * KB).repeat(100),
        endless,
        vec![0xff; MB],
        vec![0; MB],
        b"10 00 ima-ng sha256:00 /a\n".repeat(10_000),
    ];
    vec![row("MeasurementList", (2, 64 * KB), inputs, |bytes| {
        let _whole = MeasurementList::whole_entries(bytes, bytes.len());
        let Ok(list) = MeasurementList::parse(bytes) else {
            return;
        };
        let _replayed = list.replay(HashAlg::Sha256, Hashing::Whole);
    })]
}

/// So many bytes of empty fields of this number.
fn empty_fields(number: u8, len: usize) -> Vec<u8> {
    [number << 3 | 2, 0].repeat(len / 2)
}

/// Messages of agents: as long as they may be, and of as many fields as fit in.
fn messages() -> Vec<Row> {
    const FIRST: usize = 250 * KB;
    const ANSWER: usize = 4 * MB;
    let hello = |hello: Vec<u8>| {
        let evidence = wire::Evidence {
            hello: hello.into(),
            ..wire::Evidence::default()
        };
        evidence.encode_to_vec()
    };
    let key = |content: &[u8]| length_delimited(1, content);
    let first = vec![
        hello(empty_fields(1, FIRST)),
        hello(empty_fields(3, FIRST)),
        hello(empty_fields(4, FIRST)),
        hello(key(&empty_fields(3, FIRST))),
        length_delimited(2, &empty_fields(3, FIRST)),
        empty_fields(2, FIRST),
        vec![0xff; FIRST],
        hello(vec![0; FIRST]),
    ];
    let supplied = vec![
        empty_fields(2, ANSWER),
        length_delimited(1, &empty_fields(3, ANSWER)),
        empty_fields(1, ANSWER),
        vec![0xff; ANSWER],
        length_delimited(2, &length_delimited(2, &vec![0; ANSWER])),
    ];
    let answers = supplied
        .iter()
        .map(|supplied| length_delimited(2, supplied))
        .collect();
    let newcomer = || {
        let mut machine = Machine::new();
        let server = Server::of(&machine);
        let first = machine.begin(WIRE);
        (server, machine, first)
    };
    let (server, mut machine, _) = newcomer();
    let evidence = machine.prover.begin(&plugin_api::Binding {
        exporter: WIRE.exporter,
        csr: WIRE.csr.to_vec(),
    });
    let evidence = evidence.unwrap();
    vec![
        row("first message", (2, 64 * KB), first, |bytes| {
            let server = Server::new(&node_tpm::Config {
                vendor_roots: false,
                ..node_tpm::Config::default()
            });
            assert!(server.start(bytes, WIRE).is_err());
            assert!(
                server
                    .resume(bytes, "/spire/agent/tpm/any", WIRE.exporter)
                    .is_err()
            );
            let _key = server.attestor.claimed_key(bytes);
        }),
        row("answer to a credential", (2, 64 * KB), answers, move |bytes| {
            let next = challenged(&server, &evidence);
            assert!(next.handle(bytes, &server.context(WIRE, 2)).is_err());
        }),
        session(supplied),
    ]
}

fn challenged(server: &Server, evidence: &[u8]) -> Box<dyn Expect> {
    match server.start(evidence, WIRE) {
        Ok(Step::Challenge { next, .. }) => next,
        other => panic!("{other:?}"),
    }
}

fn session(inputs: Vec<Vec<u8>>) -> Row {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    let claim = claim(&attested);
    assert!(!path(&attested).is_empty());
    let binding = SessionBinding {
        exporter: WIRE.exporter,
        hello: claim.hello,
        clock: claim.appraised.standing.clock,
        grown: None,
    };
    row("answer in a session", (2, 64 * KB), inputs, move |bytes| {
        let host = Arc::clone(server.hosts.first().unwrap());
        let asked = server
            .attestor
            .begin_round(&host, &binding, &server.context(WIRE, 3));
        let heard = asked.unwrap().next.handle(bytes, &server.context(WIRE, 4));
        assert!(heard.is_err());
    })
}

/// A field with this content.
fn length_delimited(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        field.push(len as u8 | 0x80);
        len >>= 7;
    }
    field.push(len as u8);
    field.extend(content);
    field
}
