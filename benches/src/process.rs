//! The processes that serve, and what they use.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A program held to one core, until this is dropped.
pub(crate) struct Serving {
    child: Child,
}

/// The core of all that serves.
const THEIRS: &str = "0";
/// Clock ticks a second in `/proc` (USER_HZ): 100 on every Linux.
const TICKS: f64 = 100.0;

impl Serving {
    /// Starts `program`, whose log goes to `log`.
    pub(crate) fn start(program: &Path, words: &[&str], log: &Path) -> Result<Self> {
        let file = fs::File::create(log)?;
        let child = Command::new("taskset")
            .args(["--cpu-list", THEIRS])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn();
        let child = child.with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready`.
    pub(crate) async fn wait(&self, log: &Path, is_ready: impl Fn(&str) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_ready(&fs::read_to_string(log)?) {
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("not ready; see {}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Serving {
    /// Kills it, and waits until it is gone: of a large process the kernel has much to take down.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processor time that a process has used: user and system, all threads.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the name, in parentheses; 14 and 15 are what is wanted.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let used = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    Ok(Duration::from_secs_f64(
        used.context("/proc is not as expected")? / TICKS,
    ))
}

/// Resident memory of a process in bytes.
pub(crate) fn memory(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.context("/proc is not as expected")? * 1024)
}
