//! Fuzzing: libFuzzer on stable Rust, every target of `fuzz/` in turn.
//!
//! Our libraries are compiled with coverage by `fuzz/rustc-with-coverage`; what they depend upon is shared with the
//! ordinary build. New inputs and crashes go to `target/fuzz`; what is worth keeping goes to `fuzz/corpus` by hand.

mod session;

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::session::Session;
use crate::{
    packages,
    run::{self, cargo, root},
};

/// How long, and what.
#[derive(Args)]
pub(crate) struct Options {
    /// How long in all; targets have equal parts of it.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// One target instead of all.
    #[arg(long)]
    target: Option<String>,
    /// How many run at once; as many as there are processors if it is not said.
    #[arg(long)]
    jobs: Option<usize>,
}

/// A target, as the fuzzer lists it.
#[derive(Clone, Debug)]
struct Target {
    name: String,
    max_len: usize,
    seeds: Vec<PathBuf>,
}

/// Where everything is written.
fn folder() -> PathBuf {
    root().join("target/fuzz")
}

impl Options {
    /// All targets, in so many minutes.
    pub(crate) const fn minutes(minutes: f64) -> Self {
        Self {
            minutes,
            target: None,
            jobs: None,
        }
    }
}

/// `cargo xtask fuzz`.
///
/// # Errors
///
/// The fuzzer can't be built, or found an input that a target does not survive.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(packages::BUILD)?;
    let fuzzer = build()?;
    let mut targets = list(&fuzzer)?;
    if let Some(name) = &options.target {
        targets.retain(|target| target.name == *name);
    }
    if targets.is_empty() {
        bail!("there is no such target; fuzz/src/targets/mod.rs has the list");
    }
    let processors = thread::available_parallelism().map_or(1, Into::into);
    let jobs = options.jobs.unwrap_or(processors).clamp(1, targets.len());
    let each = share(options.minutes, jobs, targets.len())?;
    println!(
        "{} targets, {jobs} at once, {} s each",
        targets.len(),
        each.as_secs()
    );
    Session::new(fuzzer, targets, each).run(jobs)
}

/// The time of a target: whole seconds, one at least.
fn share(minutes: f64, jobs: usize, targets: usize) -> Result<Duration> {
    let all = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    let all = all.saturating_mul(u32::try_from(jobs)?);
    Ok(Duration::from_secs(
        (all / u32::try_from(targets)?).as_secs().max(1),
    ))
}

/// Builds the fuzzer. It is copied away, since an ordinary build puts one without coverage into its place.
fn build() -> Result<PathBuf> {
    println!("Building the fuzzer");
    let wrapper = root().join("fuzz/rustc-with-coverage");
    let words = ["build", "--locked", "--quiet", "--package", "fuzz", "--bin", NAME];
    run::run(
        cargo(&words)
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
            .env("CARGO_TARGET_DIR", root().join("target")),
    )?;
    let fuzzer = folder().join(NAME);
    fs::create_dir_all(folder())?;
    // Replaced, not overwritten: it may run.
    let _first_time = fs::remove_file(&fuzzer);
    fs::copy(root().join("target/debug").join(NAME), &fuzzer).context("cannot copy the fuzzer")?;
    Ok(fuzzer)
}

fn list(fuzzer: &PathBuf) -> Result<Vec<Target>> {
    let listed = std::process::Command::new(fuzzer)
        .env(TARGET, "list")
        .output()
        .context("cannot run the fuzzer")?;
    let text = String::from_utf8(listed.stdout)?;
    text.lines()
        .map(parse)
        .collect::<Option<_>>()
        .context("the fuzzer lists no targets")
}

/// A line of the list: name, longest input, folders.
fn parse(line: &str) -> Option<Target> {
    let mut fields = line.split('\t');
    Some(Target {
        name: fields.next()?.into(),
        max_len: fields.next()?.parse().ok()?,
        seeds: fields.map(Into::into).collect(),
    })
}

const NAME: &str = "plastron-fuzz";
/// By which the fuzzer is told its target.
const TARGET: &str = "PLASTRON_FUZZ_TARGET";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_share_the_time_of_all_jobs() {
        let check = |minutes, jobs, targets, seconds| {
            let share = share(minutes, jobs, targets).unwrap();
            assert_eq!(share, Duration::from_secs(seconds));
        };
        check(4.0, 2, 40, 12);
        check(10.0, 1, 1, 600);
        check(0.1, 1, 40, 1);
        assert!(share(-1.0, 1, 1).is_err());
    }

    #[test]
    fn reads_the_list_of_the_fuzzer() {
        let target = parse("ek\t2048\t/a b/fuzz/corpus/ek\t/c").unwrap();
        assert_eq!((target.name.as_str(), target.max_len), ("ek", 2048));
        assert_eq!(target.seeds, ["/a b/fuzz/corpus/ek", "/c"].map(PathBuf::from));
        assert!(parse("ek").is_none());
    }
}
