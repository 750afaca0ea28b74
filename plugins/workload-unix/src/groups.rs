//! Users and groups, by number and name.

use nix::unistd::{Gid, Group, Uid, User};

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

/// The supplementary groups in the text of `/proc/<pid>/status`; `None` if it does not say them.
#[must_use]
pub fn supplementary_gids(status: &str) -> Option<Vec<u32>> {
    let mut lines = status.lines();
    let gids = lines.find_map(|line| line.strip_prefix("Groups:"))?;
    gids.split_whitespace().map(|gid| gid.parse().ok()).collect()
}
