use proto::plastron::policy::v1::{FallOut, Generation, UnknownHost};

use super::*;

fn policy() -> Policy {
    Policy {
        name: "rack-7".into(),
        newest_version: 2,
        is_default: true,
        hosts: 3,
        generations: vec![Generation {
            id: "77c2".into(),
            version: 2,
            stage: WireStage::Enforced.into(),
            applied_by: "local uid=0 pid=1".into(),
            is_signed: true,
            met_by: 2,
            not_met_by: 1,
            ..Generation::default()
        }],
    }
}

#[test]
fn a_policy_is_shown_with_its_generations_and_who_meets_them() {
    let expected = "\
Policy rack-7: 3 hosts, for all hosts that have none of their own
  version 2, enforced since 1970-01-01T00:00:00Z, generation 77c2, applied by local uid=0 pid=1, signed: met by 2, \
not met by 1";
    assert_eq!(pretty(&policy()), expected);
    let retired = Policy {
        generations: Vec::new(),
        is_default: false,
        ..policy()
    };
    let expected = "Policy rack-7: 3 hosts\n  nothing in use; newest version was 2";
    assert_eq!(pretty(&retired), expected);
}

#[test]
fn a_change_is_shown_with_the_hosts_that_fall_out() {
    let answer = ChangeResponse {
        fall_out: vec![FallOut {
            host_id: "6f9c".into(),
            host_name: "db-1".into(),
            difference: "policy rack-7 is not met: …".into(),
        }],
        fall_out_count: 1,
        unknown: 2,
        unknown_hosts: vec![UnknownHost {
            host_id: "77c2".into(),
            host_name: "db-2".into(),
            missing: "it was not asked for PCR 11 yet".into(),
        }],
        ..ChangeResponse::default()
    };
    let expected = "\
Hosts that fall out: 1.
6f9c db-1: policy rack-7 is not met: …
Hosts of which too little is on record; some of them may fall out when they show it: 2.
77c2 db-2: it was not asked for PCR 11 yet";
    assert_eq!(pretty_change(&answer, ""), expected);
}

/// What is said of a change by which so many hosts fall out, and might, where so many are accepted.
fn check((fall_out_count, unknown): (u32, u32), (accept_fall_out, accept_unknown): (u32, u32), said: &str) {
    let answer = ChangeResponse {
        fall_out_count,
        unknown,
        ..ChangeResponse::default()
    };
    let care = |dry_run| Care {
        dry_run,
        accept_fall_out,
        accept_unknown,
    };
    assert_eq!(care(false).refused(&answer), said);
    let report = |care: &Care| care.report(Output::Pretty, &answer, "");
    assert!(matches!(report(&care(false)), Err(CommandError::WouldFallOut)));
    assert!(report(&care(true)).is_ok());
}

#[test]
fn a_change_that_is_not_made_says_what_to_do() {
    check(
        (3, 0),
        (0, 0),
        "Nothing was changed: 3 hosts would fall out. Repeat it with --accept-fall-out 3 if that is right.",
    );
    check(
        (0, 2),
        (0, 1),
        "Nothing was changed: of 2 hosts too little is on record to tell. Have them held to it while it is staged, so that \
         they show what is missing; or repeat it with --accept-unknown 2 if that is right.",
    );
    check(
        (3, 2),
        (0, 2),
        "Nothing was changed: 3 hosts would fall out, and of 2 hosts too little is on record to tell. Repeat it with \
         --accept-fall-out 3 --accept-unknown 2 if that is right.",
    );
}
