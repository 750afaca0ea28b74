//! Hosts that boot for real: firmware, Secure Boot, a kernel image, Linux, and the agent on it.

mod intruder;
mod policy;

use std::time::Duration;

use serde_json::Value;
use swtpm_tests::{
    World,
    vm::{Chip, Disk, Guest, Uki},
};

use super::verdict::{is_revoked, judged, recorded, revoked, serial_in};
use policy::{Evidence, Policy};

const WEB: &str = "spiffe://example.org/web";
/// Often, because the test waits; but an emulated host on a busy machine takes seconds to answer.
const OFTEN: &str = "evidence_interval = \"3s\"\nevidence_ttl = \"12s\"\n";
/// One interval, a second, and ten for the emulation: from then on nothing is signed for a host that was changed.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(3 + 1 + 10);
/// What somebody adds to a command line who wants a shell.
const CHANGE: &str = "systemd.debug_shell=1";
const FETCH: &str = "plastron-agent api fetch x509 --output json";

/// A guest that its server knows.
struct Known {
    guest: Guest,
    world: World,
    _tpm: Chip,
    /// The identifier of its row.
    host: String,
    agent_id: String,
}

impl Known {
    /// Boots `disk` on a machine of its own, enrols it, and starts its agent.
    fn boot(world: World, disk: &Disk) -> Self {
        let mut known = Self::enrol(world, disk);
        known.guest.start_agent(&known.world.bundle());
        known
    }

    /// Boots `disk` on a machine of its own, and enrols it.
    fn enrol(world: World, disk: &Disk) -> Self {
        let tpm = Chip::manufacture();
        let mut guest = Guest::boot(disk, &tpm, &world.address());
        let keys = guest.json("plastron-agent tpm ek --output json");
        let host = world.enrol_keys(&keys);
        let hash = keys["endorsement_keys"][0]["hash"].as_str().unwrap();
        Self {
            guest,
            world,
            _tpm: tpm,
            host,
            agent_id: format!("spiffe://example.org/spire/agent/tpm/{hash}"),
        }
    }

    /// Has an SVID for a program of the guest, and returns what that fetches.
    fn serve(&mut self) -> Value {
        self.guest.console().wait_for("Agent ready");
        self.register(WEB);
        self.guest.console().wait_for("SVID ready");
        let fetched = self.guest.json(FETCH);
        assert_eq!(fetched["svids"][0]["spiffe_id"], WEB, "{fetched}");
        fetched
    }

    /// Registers the guest's root user.
    fn register(&self, spiffe_id: &str) {
        let parent = ["entry", "create", "--parent-id", &self.agent_id];
        let words = ["--spiffe-id", spiffe_id, "--selector", "unix:uid:0"];
        let _created = self.world.cli(&[&parent[..], &words].concat());
    }

    /// Waits until its verdict is `finding`; why.
    fn judged(&self, finding: &str) -> Value {
        judged(&self.world, &self.host, finding)["code"].clone()
    }

    fn signed(&self) -> usize {
        recorded(&self.world, "svid_issued").len()
    }
}

#[test]
fn a_measured_boot_has_an_svid_until_it_is_silent_or_changed_and_its_disk_nothing_elsewhere() {
    let uki = Uki::with("");
    let disk = Disk::with(&uki);
    let mut known = Known::boot(World::for_tpms(OFTEN, ""), &disk);
    let fetched = known.serve();
    check_evidence(&mut known.guest, &uki);
    let copy = copied(&mut known.guest, &disk);
    check_silence(&mut known);
    check_tampering(&mut known, &fetched);

    drop(known.guest);
    check_copy(&mut known.world, &copy);
}

/// The disk as a thief copies it, while the agent keeps an SVID there.
fn copied(guest: &mut Guest, disk: &Disk) -> Disk {
    guest
        .console()
        .wait_for("\"message\":\"Sealed state written\",\"count\":1,");
    guest.run("sync");
    guest.pause();
    let copy = disk.copy();
    guest.resume();
    copy
}

/// What booted is what its file predicts, with Secure Boot on.
fn check_evidence(guest: &mut Guest, uki: &Uki) {
    // It fails if anything in the log is refused.
    let log = guest.json("plastron-agent tpm log --output json");
    assert_eq!(log["secure_boot"]["on"], true, "{log}");
    let outcome = Policy::of(uki).tried_on(&Evidence::of(guest));
    assert_eq!(outcome["met"], true, "{outcome}");
}

/// Silence makes a host stale, and nothing is signed for it; it heals by itself.
fn check_silence(known: &mut Known) {
    // On a busy machine a guest may have been silent for too long already.
    known.judged("FINDING_VERIFIED");
    let healed = known.world.server().count("Host verified again");
    known.guest.pause();
    assert_eq!(known.judged("FINDING_STALE"), "silent");
    let signed = known.signed();
    known.register("spiffe://example.org/late");
    assert_eq!(known.signed(), signed);

    known.guest.resume();

    let server = known.world.server();
    server.wait_for_more("Host verified again", healed + 1);
    known.guest.console().wait_for_more("SVID ready", 2);
    assert_eq!(recorded(&known.world, "host_quarantined").len(), 0);
    assert!(revoked(&known.world).is_empty(), "silence revokes nothing");
}

/// Who extends a PCR loses everything within the time that is promised.
fn check_tampering(known: &mut Known, fetched: &Value) {
    let begun = known.guest.extend(4);

    let quarantined = known.world.server().wait_for("Host quarantined");
    is_revoked(&known.world, &serial_in(fetched));
    let took = begun.elapsed();

    assert!(took <= WITHDRAWN_WITHIN, "withdrawn after {took:?}");
    println!("withdrawn {:.1} s after the PCR was extended", took.as_secs_f64());
    let revoked = revoked(&known.world);
    assert_eq!(
        revoked.len(),
        known.signed(),
        "all that was signed for it: {revoked:?}"
    );
    assert!(quarantined.contains("PCR 4 of bank sha256"), "{quarantined}");
    assert_eq!(known.judged("FINDING_QUARANTINED"), "log_mismatch");
    let signed = known.signed();
    let console = known.guest.console();
    console.wait_for("Server withdrew this host's standing");
    let (status, said) = known.guest.outcome(FETCH);
    assert!(status != 0 && said.contains("no identity issued"), "{said}");
    // It tries again, and is refused.
    known.register("spiffe://example.org/later");
    known.guest.console().wait_for("is quarantined");
    assert_eq!(known.signed(), signed);
}

/// On another machine the disk is that of a host that nobody knows, and what is sealed on it opens for nobody.
fn check_copy(world: &mut World, disk: &Disk) {
    let tpm = Chip::manufacture();
    let mut thief = Guest::boot(disk, &tpm, &world.address());
    let kept = thief.run("ls /var/lib/plastron-agent");
    assert_eq!(kept, "bundle.json\nsealed.state", "a key, or what may be one");
    let bundle = world.bundle();
    world.kill_server();

    thief.start_agent(&bundle);

    thief.console().wait_for("another TPM sealed it");
    has_nothing(&mut thief);
    world.start_server();
    thief.console().wait_for("host_pending");
    assert_eq!(thief.console().count("\"Attested\""), 0);
    has_nothing(&mut thief);
}

fn has_nothing(guest: &mut Guest) {
    let (status, said) = guest.outcome(FETCH);
    assert!(status != 0, "{said}");
}

#[test]
fn a_changed_command_line_is_refused_and_the_difference_named() {
    let changed = Uki::with(CHANGE);
    let world = World::for_tpms(OFTEN, "");
    let policy = Policy::of(&Uki::with(""));
    policy.enforce(&world);

    let mut known = Known::boot(world, &Disk::with(&changed));

    // What it says instead is known by its digest alone.
    let named = "section `.cmdline` of the kernel image: expected `console=ttyS0,115200 quiet panic=-1 no_timer_check`";
    check_refusal(&mut known, named);
    // The same without a server.
    let outcome = policy.tried_on(&Evidence::of(&mut known.guest));
    assert_eq!(outcome["met"], false, "{outcome}");
    assert!(differs(&outcome, "found", CHANGE), "{outcome}");
    assert!(!differs(&outcome, "subject", ".linux"), "{outcome}");
}

#[test]
fn another_kernel_is_refused_until_it_is_predicted() {
    let (usual, other) = (Uki::with(""), Uki::of_another_kernel());
    let world = World::for_tpms(OFTEN, "");
    let policy = Policy::of(&usual);
    policy.enforce(&world);

    let mut known = Known::boot(world, &Disk::with(&other));

    check_refusal(&mut known, "section `.linux` of the kernel image");
    let evidence = Evidence::of(&mut known.guest);
    let outcome = policy.tried_on(&evidence);
    assert!(differs(&outcome, "subject", ".linux"), "{outcome}");
    assert!(!differs(&outcome, "subject", ".cmdline"), "{outcome}");

    let next = policy.with(&other);
    let outcome = next.tried_on(&evidence);
    let accepted = (&outcome["met"], &outcome["version"]);
    assert_eq!(accepted, (&true.into(), &2.into()), "{outcome}");
    next.enforce(&known.world);
    let _released = known.world.cli(&["host", "release", "--id", &known.host]);
    known.serve();
    assert_eq!(known.judged("FINDING_VERIFIED"), "");
}

/// The server refuses a host that booted something else, and names what.
fn check_refusal(known: &mut Known, named: &str) {
    let refusal = known.guest.console().wait_for("policy_not_met");
    assert!(refusal.contains(named), "{refusal}");
    assert_eq!(known.judged("FINDING_QUARANTINED"), "policy_not_met");
    let (status, said) = known.guest.outcome(FETCH);
    assert!(status != 0, "{said}");
    assert_eq!(known.guest.console().count("Agent ready"), 0);
    assert_eq!(known.signed(), 0);
}

/// Whether a difference in a section of the kernel image says `part` in its `field`.
fn differs(outcome: &Value, field: &str, part: &str) -> bool {
    let differences = outcome["differences"].as_array().unwrap();
    differences.iter().any(|difference| {
        let said = difference[field].as_str().unwrap();
        difference["code"] == "policy_uki_section" && said.contains(part)
    })
}

#[test]
fn what_nobody_signed_does_not_boot() {
    Guest::refused(&Disk::with(&Uki::unsigned()), &Chip::manufacture());
}
