//! Users and groups, by number and name.

use nix::unistd::{Gid, Group, Uid, User};
use plugin_api::{Process, WorkloadAttestError};

/// The name of a user, if the system knows one.
pub(super) fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

/// The name of a group, if the system knows one.
pub(super) fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map(|group| group.name)
}

/// The supplementary groups in the text of `/proc/<pid>/status`.
pub(super) fn supplementary(status: &str, process: &Process) -> Result<Vec<u32>, WorkloadAttestError> {
    let malformed = || WorkloadAttestError::Malformed(format!("/proc/{}/status", process.pid));
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .ok_or_else(malformed)?;
    line.split_whitespace()
        .map(|gid| gid.parse().map_err(|_| malformed()))
        .collect()
}
