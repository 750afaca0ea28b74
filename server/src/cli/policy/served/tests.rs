use proto::plastron::policy::v1::{FallOut, Generation};

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
        ..ChangeResponse::default()
    };
    let shown = pretty_change(&answer, "");
    assert!(
        shown.starts_with("Hosts that fall out: 1.\n6f9c db-1: policy rack-7 is not met: …\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("some of them may fall out when they show it: 2."),
        "{shown}"
    );
    let care = |dry_run| Care {
        dry_run,
        accept_fall_out: 0,
    };
    let report = |care: &Care| care.report(Output::Pretty, &answer, "");
    assert!(matches!(report(&care(false)), Err(CommandError::WouldFallOut)));
    assert!(report(&care(true)).is_ok());
}
