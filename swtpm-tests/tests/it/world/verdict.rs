//! Hosts that are changed, or fall silent, while they run.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use rustls_pki_types::CertificateDer;
use serde_json::Value;
use svid::x509::{SerialNumber, X509Svid};
use swtpm_tests::{Agent, Machine, World};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

const WEB: &str = "spiffe://example.org/web";
/// TPM_CC_Quote.
const QUOTE: u32 = 0x158;
/// So often that no test waits for it.
const OFTEN: &str = "evidence_interval = \"1s\"\n";

/// A host whose workload has its SVID, and the identifier of its row.
fn serving(settings: &str) -> (World, Machine, Agent, String) {
    let world = World::for_tpms(settings, "");
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    // From here on the TPM is asked for evidence alone.
    agent.daemon().wait_for("State is sealed");
    (world, machine, agent, host)
}

pub(super) fn verdict(world: &World, host: &str) -> Value {
    world.cli(&["host", "show", "--id", host])["verdict"].clone()
}

/// Waits until a host has this verdict, of which the audit trail tells before anybody else sees it.
pub(super) fn judged(world: &World, host: &str, finding: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = verdict(world, host);
        if shown["finding"] == finding {
            return shown;
        }
        assert!(Instant::now() < deadline, "not {finding}: {shown}");
    }
}

/// What the audit trail has of `event`.
pub(super) fn recorded(world: &World, event: &str) -> Vec<Value> {
    world.audit(&["query", "--event", event, "--output", "json"])
}

/// Waits until the audit trail has `event` `times` times.
pub(super) fn audited(world: &World, event: &str, times: usize) -> Vec<Value> {
    let line = format!("\"event\":\"{event}\"");
    world.follow_audit().wait_for_more(&line, times);
    recorded(world, event)
}

/// The serial number of the workload's SVID.
fn serial(agent: &Agent) -> SerialNumber {
    serial_in(&agent.cli(&["api", "fetch", "x509"]))
}

/// The serial number of the first SVID that a workload fetched.
pub(super) fn serial_in(fetched: &Value) -> SerialNumber {
    let chain = fetched["svids"][0]["x509_svid"].as_str().unwrap();
    let leaf = CertificateDer::from(pem::parse(chain).unwrap().into_contents());
    X509Svid::parse(&leaf).unwrap().serial
}

/// Waits until a CRL names `serial`.
pub(super) fn is_revoked(world: &World, serial: &SerialNumber) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !revoked(world).contains(serial) {
        assert!(Instant::now() < deadline, "no CRL names {serial}");
    }
}

/// What the CRLs in the server's files name.
pub(super) fn revoked(world: &World) -> Vec<SerialNumber> {
    let mut revoked = Vec::new();
    for file in fs::read_dir(world.data_dir().join("crl")).unwrap() {
        let path = file.unwrap().path();
        // What is just being written lies beside under another name.
        if path.extension().is_none_or(|extension| extension != "crl") {
            continue;
        }
        // Of an authority that is no more the file may be gone by now.
        let Ok(der) = fs::read(&path) else {
            continue;
        };
        let (_, crl) = CertificateRevocationList::from_der(&der).unwrap();
        let serials = crl.iter_revoked_certificates();
        revoked.extend(serials.map(|one| SerialNumber::from_bytes(&one.user_certificate.to_bytes_be())));
    }
    revoked
}

#[test]
fn a_healthy_host_is_asked_again_and_again_for_one_tpm_command() {
    let (world, machine, agent, host) = serving(OFTEN);
    machine.proxy.take_commands();
    let mut commands = Vec::new();
    while commands.len() < 3 {
        commands.extend(machine.proxy.take_commands());
        std::thread::yield_now();
    }
    assert!(commands.iter().all(|command| *command == QUOTE), "{commands:x?}");
    assert_eq!(verdict(&world, &host)["finding"], "FINDING_VERIFIED");
    assert_eq!(world.server().count("Evidence refused"), 0);
    drop(agent);
}

#[test]
fn a_host_that_is_changed_while_it_runs_loses_everything_until_it_is_good_and_released() {
    let (world, machine, agent, host) = serving(OFTEN);
    let watch = agent.watch();
    watch.wait_for(WEB);
    let serial = serial(&agent);

    machine.measure_unlogged(4);

    // Its workload loses the SVID while it waits, and relying parties that read the CRL refuse it.
    let withdrawal = agent.daemon().wait_for("Server withdrew this host's standing");
    assert!(withdrawal.contains("host_quarantined"), "{withdrawal}");
    watch.wait_for("no identity issued");
    is_revoked(&world, &serial);
    let quarantined = world.server().wait_for("Host quarantined");
    for said in ["log_mismatch", "PCR 4 of bank sha256", "\"exposure\":\"3600s\""] {
        assert!(quarantined.contains(said), "{quarantined}");
    }
    let shown = verdict(&world, &host);
    assert_eq!(shown["finding"], "FINDING_QUARANTINED", "{shown}");
    assert_eq!(shown["code"], "log_mismatch", "{shown}");
    let difference = shown["difference"].as_str().unwrap();
    assert!(difference.contains("PCR 4 of bank sha256"), "{shown}");

    // Released while it is what it was: it attests, is found out, and quarantined again.
    let _released = world.cli(&["host", "release", "--id", &host]);
    audited(&world, "host_quarantined", 2);
    judged(&world, &host, "FINDING_QUARANTINED");
    let outcome = agent.outcome(&["api", "fetch", "x509"]);
    assert!(!outcome.status.success(), "{outcome:?}");
    let released = audited(&world, "host_released", 1);
    assert_eq!(released.len(), 1, "{released:?}");
}

#[test]
fn a_quarantine_outlives_the_server_and_good_evidence_until_it_is_released() {
    let (mut world, machine, agent, host) = serving(OFTEN);
    machine.measure_unlogged(4);
    agent.daemon().wait_for("host_quarantined");
    drop(agent);
    // The machine boots as it should.
    drop(machine);

    world.restart_server();

    let shown = verdict(&world, &host);
    assert_eq!(shown["finding"], "FINDING_QUARANTINED", "{shown}");
    let refused = world.outcome(&["host", "release", "--id", "nobody"]);
    assert!(!refused.status.success());
    let _released = world.cli(&["host", "release", "--id", &host]);
    let shown = verdict(&world, &host);
    assert_eq!(
        (&shown["finding"], &shown["code"]),
        (&"FINDING_STALE".into(), &"released".into())
    );
    let again = world.outcome(&["host", "release", "--id", &host]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("not quarantined"), "{said}");
}

#[test]
fn a_host_that_falls_silent_is_stale_and_heals_when_it_speaks() {
    let (world, _machine, agent, host) = serving("evidence_interval = \"1s\"\nevidence_ttl = \"3s\"\n");
    let serial = serial(&agent);

    agent.daemon().signal("STOP");
    audited(&world, "host_stale", 1);
    assert_eq!(judged(&world, &host, "FINDING_STALE")["code"], "silent");
    agent.daemon().signal("CONT");

    audited(&world, "host_verified", 2);
    // It has what it had, and gets what is new.
    let _entry = world.entry(agent.id(), "spiffe://example.org/late", &[]);
    agent.daemon().wait_for_more("SVID ready", 2);
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert!(fetched.to_string().contains(WEB), "{fetched}");
    assert_eq!(world.server().count("Host quarantined"), 0);
    assert!(!revoked(&world).contains(&serial), "silence revokes nothing");
}

#[test]
fn a_host_that_is_silent_for_long_is_lost_and_what_it_had_is_revoked() {
    let times = "evidence_interval = \"1s\"\nevidence_ttl = \"3s\"\nlost_after = \"6s\"\n";
    let (world, _machine, agent, host) = serving(times);
    let serial = serial(&agent);

    agent.daemon().signal("STOP");
    audited(&world, "host_lost", 1);
    is_revoked(&world, &serial);
    let shown = verdict(&world, &host);
    assert_eq!(
        (&shown["finding"], &shown["code"]),
        (&"FINDING_STALE".into(), &"lost".into()),
        "{shown}"
    );
    agent.daemon().signal("CONT");

    // It drops what is revoked, and gets anew what it may have.
    let withdrawal = agent.daemon().wait_for("Server withdrew this host's standing");
    assert!(withdrawal.contains("host_lost"), "{withdrawal}");
    judged(&world, &host, "FINDING_VERIFIED");
    agent.daemon().wait_for_more("SVID ready", 2);
    assert_ne!(self::serial(&agent), serial);
    assert_eq!(world.server().count("Host quarantined"), 0);
}

#[test]
fn a_server_that_was_away_quarantines_nobody() {
    let (mut world, _machine, agent, host) = serving(OFTEN);

    world.kill_server();
    agent.daemon().wait_for("Session ended");
    world.start_server();
    agent.daemon().wait_for_more("Session opened", 2);

    let shown = verdict(&world, &host);
    assert_eq!(shown["finding"], "FINDING_VERIFIED", "{shown}");
    assert_eq!(recorded(&world, "host_quarantined").len(), 0);
}

/// Its notices are not lost in silence, and do not keep the server from stopping.
#[test]
fn what_another_program_could_not_be_told_before_the_server_stops_is_said() {
    // Any file of some length holds a secret. Whoever listens takes the notice, and never says so.
    let secret = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = format!("webhook = {{ url = \"http://{address}/hook\", secret_path = {secret:?} }}\n");
    let (mut world, _machine, _agent, _host) = serving(&settings);
    let _connection = listener.accept().unwrap();

    world.server().signal("TERM");

    let (status, said) = world.server_end();
    assert!(status.success(), "{said}");
    assert!(said.contains("Webhook not told: the server stops"), "{said}");
}
