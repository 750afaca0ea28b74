//! Attests a workload by its Unix user, groups and executable.
//!
//! | selector | value |
//! |---|---|
//! | `unix:uid:1000` | effective user, as connected |
//! | `unix:user:postgres` | its name, where there is one |
//! | `unix:gid:1000` | effective group, as connected |
//! | `unix:group:postgres` | its name, where there is one |
//! | `unix:supplementary_gid:4` | each further group |
//! | `unix:supplementary_group:adm` | its name, where there is one |
//! | `unix:path:/usr/bin/psql` | executable, with `discover_workload_path` |
//! | `unix:sha256:2b4c…` | its content, with `discover_workload_path` |
//!
//! A path says which file was started, not that nothing else runs in the process; whoever may write the file, or
//! debug the process, can be it.

mod executable;
mod groups;

use std::fs;

use executable::Digests;
pub use groups::supplementary_gids;
use plugin_api::{Process, WorkloadAttestError, WorkloadAttestor};
use serde::Deserialize;
use svid::Selector;

/// `[plugins.workload-unix]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Finds the executable as well.
    pub discover_workload_path: bool,
    /// Executables of more bytes get no `sha256`; 0 for no limit, below 0 for none at all.
    pub workload_size_limit: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            discover_workload_path: false,
            workload_size_limit: 512 * 1024 * 1024,
        }
    }
}

/// Attests by what `/proc` says.
#[derive(Debug)]
pub struct UnixAttestor {
    config: Config,
    digests: Digests,
}

impl UnixAttestor {
    /// With these settings.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            digests: Digests::default(),
        }
    }
}

impl WorkloadAttestor for UnixAttestor {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn attest(&self, process: &Process) -> Result<Vec<Selector>, WorkloadAttestError> {
        let mut values = vec![format!("uid:{}", process.uid), format!("gid:{}", process.gid)];
        values.extend(groups::user_name(process.uid).map(|name| format!("user:{name}")));
        values.extend(groups::group_name(process.gid).map(|name| format!("group:{name}")));
        values.extend(supplementary(&status(process)?, process)?);
        if self.config.discover_workload_path {
            values.extend(self.digests.of(process, self.config.workload_size_limit)?);
        }
        Ok(values
            .iter()
            .filter_map(|value| Selector::new(self.name(), value).ok())
            .collect())
    }
}

/// Values of the `supplementary_gid` and `supplementary_group` selectors, from the text of `/proc/<pid>/status`.
fn supplementary(status: &str, process: &Process) -> Result<Vec<String>, WorkloadAttestError> {
    let malformed = || WorkloadAttestError::Malformed(format!("/proc/{}/status", process.pid));
    let gids = supplementary_gids(status).ok_or_else(malformed)?;
    let values = gids.into_iter().flat_map(|gid| {
        let name = groups::group_name(gid).map(|name| format!("supplementary_group:{name}"));
        [format!("supplementary_gid:{gid}")].into_iter().chain(name)
    });
    Ok(values.collect())
}

fn status(process: &Process) -> Result<String, WorkloadAttestError> {
    let path = format!("/proc/{}/status", process.pid);
    fs::read_to_string(&path).map_err(|source| WorkloadAttestError::Read { path, source })
}

#[cfg(test)]
mod tests;
