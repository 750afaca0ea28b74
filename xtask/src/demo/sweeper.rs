//! Cleans up after a demonstration that was ended before it could do so.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// A shell that waits for the end of this program, however it comes, then ends every process whose command names
/// the folder, and removes the folder.
pub(super) struct Sweeper(Child);

/// The folder is in the environment, so that the shell does not find itself.
const SWEEP: &str = r#"
cat >/dev/null
for process in /proc/[0-9]*; do
    tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qF "$PLASTRON_DEMO" && kill -KILL "${process#/proc/}"
done 2>/dev/null
rm -rf "$PLASTRON_DEMO"
"#;

impl Sweeper {
    /// A sweeper of `folder`.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SWEEP]).env("PLASTRON_DEMO", folder);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C in a terminal goes to a process group: not to this one.
            .process_group(0);
        Ok(Self(shell.spawn().context("cannot run sh")?))
    }

    /// Tells it that there is nothing left to do, and waits for it.
    pub(super) fn dismiss(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait().context("sh")?;
        Ok(())
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Nobody is left to tell of a failure.
        let _swept = self.0.wait();
    }
}
