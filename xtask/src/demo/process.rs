//! Programs that run along, and programs that answer.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A program that runs until this is dropped.
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How long a program may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How much of a log an error shows.
const LINES: usize = 20;

impl Running {
    /// Starts `command`; what it prints goes to the file `log`.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let name = name_of(command);
        let file = File::create(log)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn();
        let child = child.with_context(|| format!("cannot run {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.into(),
        })
    }

    /// What it printed so far.
    pub(super) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn last_lines(&self) -> String {
        let printed = self.printed();
        let lines: Vec<_> = printed.lines().collect();
        lines
            .get(lines.len().saturating_sub(LINES)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until `running` is as `is_ready` says.
///
/// # Errors
///
/// It ends before, or takes too long.
pub(super) fn until(running: &mut Running, is_ready: impl Fn(&Running) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let has_ended = running.child.try_wait()?.is_some();
        if is_ready(running) {
            return Ok(());
        }
        if has_ended || begun.elapsed() > READY_WITHIN {
            let how = if has_ended {
                "ended"
            } else {
                "is not ready in time"
            };
            bail!("{} {how}; it printed:\n{}", running.name, running.last_lines());
        }
        sleep(Duration::from_millis(10));
    }
}

/// Runs `command` to its end, and answers with what it printed.
///
/// # Errors
///
/// It can't be run, or fails; the error has what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{name} failed ({}):\n{printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(printed)
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
