//! Every bank that a TPM has active is quoted, and once it was, it has to be.

use attest::{HashAlg, PcrValues, event_log::EventLog};
use swtpm_tests::{
    SoftwareTpm,
    parties::{Machine, Server, captured, claim, event_log, replayed},
};

const BOTH: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

/// A machine of Google's cloud, whose firmware measures into both banks.
pub(crate) fn with_both_banks() -> Machine {
    let log = captured("goattest-ubuntu_2104_shielded_vm_no_secure_boot_eventlog");
    let parsed = EventLog::parse(&log).unwrap();
    let mut values = PcrValues::default();
    for alg in BOTH {
        let replayed = parsed.replay(alg).unwrap();
        replayed
            .iter()
            .for_each(|(alg, index, value)| values.set(alg, index, *value));
    }
    Machine::with(tpm(values), &log)
}

fn tpm(values: PcrValues) -> SoftwareTpm {
    let mut tpm = SoftwareTpm::with(values);
    tpm.banks = BOTH.into();
    tpm
}

#[test]
fn both_banks_are_quoted_and_explained() {
    let mut machine = with_both_banks();
    let mut server = Server::of(&machine);
    let (attested, sent) = server.attest(&mut machine);
    assert_eq!(sent, 3);
    let appraised = claim(&attested).appraised;
    assert_eq!(
        appraised.selection.to_string(),
        "sha256:0,1,2,3,4,5,6,7,8,9,14+sha384:0,1,2,3,4,5,6,7,8,9,14"
    );
    assert_eq!(server.attest(&mut machine).1, 1);
}

#[test]
fn a_bank_that_the_log_does_not_explain_is_refused() {
    let mut machine = with_both_banks();
    let server = Server::of(&machine);
    machine.tpm().values.extend(HashAlg::Sha384, 7, &[1; 48]);
    let refusal = server
        .converse(&mut machine, swtpm_tests::parties::WIRE)
        .unwrap_err();
    assert_eq!(refusal.code, "log_mismatch");
    assert!(
        refusal.source.to_string().contains("PCR 7 of bank sha384"),
        "{}",
        refusal.source
    );
}

#[test]
fn a_bank_that_firmware_does_not_measure_into_is_refused() {
    let mut machine = Machine::with(tpm(replayed(&event_log())), &event_log());
    let server = Server::of(&machine);
    assert_eq!(server.refuses(&mut machine), "log_bank");
}

#[test]
fn a_bank_that_was_quoted_once_can_not_be_left_out() {
    let mut machine = with_both_banks();
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    let mut downgraded = std::mem::take(&mut *machine.tpm());
    downgraded.banks = vec![HashAlg::Sha256];
    let log = std::fs::read(&machine.log).unwrap();
    let mut machine = Machine::with(downgraded, &log);
    assert_eq!(server.refuses(&mut machine), "pcr_selection");
}
