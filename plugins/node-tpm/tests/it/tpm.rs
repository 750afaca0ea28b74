//! What a TPM says of itself, against what it said when evidence was last accepted.

use node_tpm::Config;
use plugin_api::NodeProver;
use swtpm_tests::{
    parties::{Machine, Server, WIRE, code, path},
    structures::Said,
};

const BEFORE: Said = Said {
    clock: 1_000_000,
    reset_count: 7,
    restart_count: 1,
    firmware_version: 50,
};

/// A host that attested, and then says this: at an attestation, and when a session opens.
fn check(config: &Config, said: Said, expected: Option<&str>) {
    let mut machine = Machine::new();
    machine.tpm().said = BEFORE;
    let mut server = Server::new(config);
    server.enrol("host-1", machine.ek_hash());
    let (attested, _) = server.attest(&mut machine);
    machine.tpm().said = said;
    let outcome = server.converse(&mut machine, WIRE);
    assert_eq!(outcome.err().map(|refusal| refusal.code), expected, "{said:?}");
    machine.prover.prepare().unwrap();
    let evidence = machine.prover.resume(&[3; 32]).unwrap().unwrap();
    let resumed = server.resume(&evidence, &path(&attested), [3; 32]);
    assert_eq!(resumed.err().map(|refusal| refusal.code), expected, "{said:?}");
}

#[test]
fn clock_and_counts_grow() {
    let config = Config::default();
    let later = Said {
        clock: 1_000_001,
        ..BEFORE
    };
    check(&config, later, None);
    let booted = Said {
        clock: 3,
        reset_count: 8,
        restart_count: 0,
        ..BEFORE
    };
    check(&config, booted, None);
    // Connections overtake each other by seconds, and copies of a TPM's state are older.
    let at = |clock| Said { clock, ..BEFORE };
    check(&config, at(990_000), None);
    check(&config, at(800_000), Some("tpm_cleared"));
    let cleared = Said {
        reset_count: 0,
        ..later
    };
    check(&config, cleared, Some("tpm_cleared"));
}

#[test]
fn a_host_sleeps_only_where_it_may() {
    let resumed = Said {
        restart_count: 2,
        ..BEFORE
    };
    check(&Config::default(), resumed, Some("tpm_resumed"));
    let may_sleep = Config {
        accept_suspend: true,
        ..Config::default()
    };
    check(&may_sleep, resumed, None);
}

#[test]
fn firmware_is_not_older_than_it_was() {
    let of = |firmware_version| Said {
        firmware_version,
        ..BEFORE
    };
    check(&Config::default(), of(51), None);
    check(&Config::default(), of(49), Some("firmware_older"));
}

/// A TPM makes attestation keys as its host likes; they all have one clock.
#[test]
fn another_attestation_key_of_the_same_tpm_begins_nothing_anew() {
    let mut machine = Machine::new();
    machine.tpm().said = BEFORE;
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    let host = std::sync::Arc::make_mut(&mut server.hosts[0]);
    host.attestation_key = None;
    for (said, expected) in [
        (Said { clock: 1, ..BEFORE }, Some("tpm_cleared")),
        (
            Said {
                restart_count: 2,
                ..BEFORE
            },
            Some("tpm_resumed"),
        ),
        (
            Said {
                firmware_version: 49,
                ..BEFORE
            },
            Some("firmware_older"),
        ),
        (BEFORE, None),
    ] {
        machine.tpm().said = said;
        let refusal = server.converse(&mut machine, WIRE).err();
        assert_eq!(refusal.map(|refusal| refusal.code), expected, "{said:?}");
    }
    assert_eq!(code(server.start(b"garbage", WIRE)), "message_malformed");
}
