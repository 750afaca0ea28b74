//! Intruders that know the protocol: whatever they say, keep and ask for, a host that was changed has nothing.

use std::{path::Path, time::Duration};

use serde_json::Value;
use svid::x509::SerialNumber;
use swtpm_tests::{
    World,
    vm::{Disk, Uki},
};

use super::{Known, OFTEN, WEB, WITHDRAWN_WITHIN, is_revoked, recorded, revoked};

/// The program itself.
const INTRUDER: &str = env!("CARGO_BIN_EXE_intruder");
/// All that it asks for, on the connection on which it proved the host: each of these was granted before. For what it
/// kept, it asks when nothing else is left; it never renews.
const CALLS: [&str; 5] = [
    "GetAuthorizedEntries",
    "SyncAuthorizedEntries",
    "BatchNewX509SVID",
    "NewJWTSVID",
    "PostStatus",
];
/// `evidence_ttl`, a second, and ten for the emulation.
const STALE_WITHIN: Duration = Duration::from_secs(12 + 1 + 10);

#[test]
fn who_sends_old_evidence_has_nothing() {
    check_liar("old", "extra_data");
}

#[test]
fn who_sends_evidence_of_another_tpm_has_nothing() {
    check_liar("foreign", "signature_invalid");
}

#[test]
fn who_leaves_out_what_was_changed_has_nothing() {
    check_liar("partial", "pcr_selection");
}

/// Who extends a PCR and lies loses everything within the time that is promised.
fn check_liar(lie: &str, code: &str) {
    let mut known = entered(lie);

    let begun = known.guest.extend(4);

    known.world.server().wait_for("Host quarantined");
    for serial in issued(&known.world) {
        is_revoked(&known.world, &serial);
    }
    let took = begun.elapsed();
    assert!(took <= WITHDRAWN_WITHIN, "withdrawn after {took:?}");
    println!("{lie}: withdrawn after {:.1} s", took.as_secs_f64());
    assert_eq!(known.judged("FINDING_QUARANTINED"), code);
    let console = known.guest.console();
    console.wait_for("intruder: withdrawn: host_quarantined");
    check_refused(&known, "is quarantined");
    // Not on another connection, either.
    console.wait_for("intruder: AttestAgent: refused");
    console.wait_for("intruder: it is over");
    let (issued, revoked) = (issued(&known.world), revoked(&known.world));
    assert_eq!(issued.len(), revoked.len(), "all that was signed for it");
    assert!(issued.iter().all(|serial| revoked.contains(serial)));
}

#[test]
fn who_falls_silent_has_nothing_new() {
    let mut known = entered("silence");

    let begun = known.guest.extend(4);

    assert_eq!(known.judged("FINDING_STALE"), "silent");
    let took = begun.elapsed();
    assert!(took <= STALE_WITHIN, "stale after {took:?}");
    println!("silence: stale after {:.1} s", took.as_secs_f64());
    let signed = known.signed();
    check_refused(&known, "gave no good evidence lately");
    assert_eq!(known.signed(), signed);
    assert_eq!(recorded(&known.world, "host_quarantined").len(), 0);
    assert!(revoked(&known.world).is_empty(), "silence revokes nothing");
}

/// A guest in which an intruder took the agent's place, before it is changed: it is asked, and has what an agent has.
fn entered(lie: &str) -> Known {
    let disk = Disk::with(&Uki::with("")).bringing(Path::new(INTRUDER));
    let mut known = Known::enrol(World::for_tpms(OFTEN, ""), &disk);
    known.register(WEB);
    known.guest.start_intruder(lie);
    for call in CALLS {
        known
            .guest
            .console()
            .wait_for(&format!("intruder: {call}: granted"));
    }
    known
}

/// Whatever it asks for is refused, and the server says why.
fn check_refused(known: &Known, why: &str) {
    let console = known.guest.console();
    for call in CALLS.into_iter().chain(["kept SyncAuthorizedEntries"]) {
        let refusal = console.wait_for(&format!("intruder: {call}: refused"));
        assert!(refusal.contains(why), "{refusal}");
    }
    assert_eq!(console.count("intruder: RenewAgent: granted"), 0);
    assert_eq!(console.count("intruder: kept SyncAuthorizedEntries: granted"), 0);
}

/// The serial numbers of all X.509-SVIDs that were signed.
fn issued(world: &World) -> Vec<SerialNumber> {
    let serial = |record: &Value| {
        let digits = record["fields"]["serial_num"].as_str().unwrap();
        SerialNumber::from_decimal(digits).unwrap()
    };
    recorded(world, "svid_issued").iter().map(serial).collect()
}
