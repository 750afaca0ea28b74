use std::{env, fs};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::process::{Pid, PidfdFlags, getegid, geteuid, pidfd_open};

use super::*;

fn this_process() -> Process {
    let pid = rustix::process::getpid();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    Process::new(
        Pid::as_raw(Some(pid)),
        geteuid().as_raw(),
        getegid().as_raw(),
        pidfd,
    )
}

fn attest(config: Config) -> Vec<String> {
    let selectors = UnixAttestor::new(config).attest(&this_process()).unwrap();
    selectors.iter().map(ToString::to_string).collect()
}

#[test]
fn finds_user_and_groups() {
    let found = attest(Config::default());
    assert!(
        found.contains(&format!("unix:uid:{}", geteuid().as_raw())),
        "{found:?}"
    );
    assert!(
        found.contains(&format!("unix:gid:{}", getegid().as_raw())),
        "{found:?}"
    );
    let user = nix::unistd::User::from_uid(geteuid().as_raw().into())
        .unwrap()
        .unwrap();
    assert!(found.contains(&format!("unix:user:{}", user.name)), "{found:?}");
    let group = nix::unistd::Group::from_gid(getegid().as_raw().into())
        .unwrap()
        .unwrap();
    assert!(found.contains(&format!("unix:group:{}", group.name)), "{found:?}");
    assert!(
        !found.iter().any(|selector| selector.starts_with("unix:path:")),
        "{found:?}"
    );
}

#[test]
fn names_supplementary_groups_where_they_have_a_name() {
    let process = this_process();
    let selectors = supplementary("Groups:\t0 4294967294 \n", &process).unwrap();
    assert_eq!(
        selectors,
        [
            "supplementary_gid:0",
            "supplementary_group:root",
            "supplementary_gid:4294967294"
        ]
    );
    let own = attest(Config::default());
    for gid in nix::unistd::getgroups().unwrap() {
        assert!(own.contains(&format!("unix:supplementary_gid:{gid}")), "{own:?}");
    }
}

#[test]
fn finds_the_executable_on_request() {
    let found = attest(Config {
        discover_workload_path: true,
        ..Config::default()
    });
    let path = env::current_exe().unwrap();
    assert!(
        found.contains(&format!("unix:path:{}", path.display())),
        "{found:?}"
    );
    let expected: String = digest(&SHA256, &fs::read(path).unwrap())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(found.contains(&format!("unix:sha256:{expected}")), "{found:?}");
}

#[test]
fn large_executables_are_not_read() {
    for limit in [1, -1] {
        let found = attest(Config {
            discover_workload_path: true,
            workload_size_limit: limit,
        });
        assert!(found.iter().any(|selector| selector.starts_with("unix:path:")));
        assert!(
            !found.iter().any(|selector| selector.starts_with("unix:sha256:")),
            "limit {limit}"
        );
    }
}

#[test]
fn reads_groups_strictly() {
    for (status, gids) in [
        ("Name:\tx\nGroups:\t4 24 \n", Some(vec![4, 24])),
        ("Groups:\t\n", Some(vec![])),
        ("Groups:\tx\n", None),
        ("Groups:\t4294967296\n", None),
        ("Name:\tx\n", None),
    ] {
        assert_eq!(supplementary_gids(status), gids, "{status:?}");
    }
    let error = supplementary("Name:\tx\n", &this_process()).unwrap_err();
    assert!(error.to_string().contains("/status"), "{error}");
}

#[test]
fn a_process_that_ended_is_an_error() {
    let process = this_process();
    let gone = Process::new(
        i32::MAX,
        process.uid,
        process.gid,
        process.pidfd().try_clone_to_owned().unwrap(),
    );
    assert!(UnixAttestor::new(Config::default()).attest(&gone).is_err());
}
