//! Running commands, and saying how long each part took.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), Into::into)
}

/// Cargo, in the workspace's root.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(root());
    // Of the cargo that runs xtask; they would make the inner one build everything again.
    for inherited in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(inherited);
    }
    command
}

/// Runs `command` to its end.
///
/// # Errors
///
/// It can't be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs `command` to its end, passes on what it prints, and answers with the lines that `keep` wants.
///
/// # Errors
///
/// It can't be started, or fails.
pub(crate) fn run_keeping(command: &mut Command, keep: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let shown = show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let mut kept = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if keep(&line) {
                kept.push(line);
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(kept)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The parts of a chore, with the time that each took.
#[derive(Default)]
pub(crate) struct Parts(Vec<(&'static str, Duration)>);

impl Parts {
    /// Runs one part.
    ///
    /// # Errors
    ///
    /// That of `part`.
    pub(crate) fn part<T>(&mut self, name: &'static str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n── {name} ──");
        std::io::stdout().flush()?;
        let begun = Instant::now();
        let outcome = part().with_context(|| name.to_owned());
        self.0.push((name, begun.elapsed()));
        println!("── {name}: {:.1} min ──", minutes(begun.elapsed()));
        outcome
    }
}

/// A line a part.
impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, took) in &self.0 {
            writeln!(f, "{:5.1} min  {name}", minutes(*took))?;
        }
        let all = self.0.iter().map(|(_, took)| *took).sum();
        writeln!(f, "{:5.1} min  in all", minutes(all))
    }
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}
