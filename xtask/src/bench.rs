//! What calls cost, on this machine.

use std::process::Command;

use anyhow::Result;

use crate::{
    packages,
    run::{cargo, root, run},
};

/// `cargo xtask bench`: `words` go to `plastron-load`.
///
/// # Errors
///
/// Something can't be built, or a measurement fails.
pub(crate) fn bench(words: &[String]) -> Result<()> {
    packages::ensure(&[packages::BUILD, &["util-linux"]].concat())?;
    let packages = ["-p", "server", "-p", "agent", "-p", "benches"];
    run(cargo(&["build", "--release", "--locked"]).args(packages))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    // Its files are beside the build: what is in memory costs nothing to sync.
    run(Command::new(target.join("release/plastron-load"))
        .args(words)
        .current_dir(target))
}
