//! Running the fuzzer for each target, and what came of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{TARGET, Target, folder};

/// All targets, each for its time, some at once. The first failure ends all.
pub(super) struct Session {
    fuzzer: PathBuf,
    each: Duration,
    open: Mutex<std::vec::IntoIter<Target>>,
    failed: AtomicBool,
}

/// What libFuzzer says at its end.
#[derive(Debug, Default, Eq, PartialEq)]
struct Stats {
    executions: u64,
    per_second: u64,
    /// Edges that were reached, of all in our libraries.
    coverage: u64,
}

/// How often a running fuzzer is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How much later than told a fuzzer may end: it looks at the clock between inputs, and one may take 10 s.
const GRACE: Duration = Duration::from_secs(30);

impl Session {
    pub(super) fn new(fuzzer: PathBuf, targets: Vec<Target>, each: Duration) -> Self {
        Self {
            fuzzer,
            each,
            open: Mutex::new(targets.into_iter()),
            failed: AtomicBool::new(false),
        }
    }

    /// Runs all.
    ///
    /// # Errors
    ///
    /// That of the first target that failed.
    pub(super) fn run(&self, jobs: usize) -> Result<()> {
        println!(
            "{:20} {:>7} {:>11} {:>9} {:>8} {:>6}",
            "target", "seconds", "executions", "per s", "coverage", "new"
        );
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| self.work())).collect();
            let mut outcome = Ok(());
            for worker in workers {
                let ended = worker.join().unwrap_or_else(|_| bail!("a worker panicked"));
                outcome = outcome.and(ended);
            }
            outcome
        })
    }

    fn work(&self) -> Result<()> {
        while let Some(target) = self.next() {
            let outcome = self.fuzz(&target);
            if outcome.is_err() {
                self.failed.store(true, Ordering::Relaxed);
                return outcome.with_context(|| format!("fuzzing `{}`", target.name));
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Target> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.next().filter(|_| !self.failed.load(Ordering::Relaxed))
    }

    fn fuzz(&self, target: &Target) -> Result<()> {
        let paths = Paths::of(&target.name)?;
        let known = count(&paths.corpus)?;
        let begun = Instant::now();
        let mut child = self
            .command(target, &paths)?
            .spawn()
            .context("cannot run the fuzzer")?;
        if !self.wait(&mut child)? {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&fs::read(&paths.log)?).into_owned();
        if !child.wait()?.success() {
            bail!(self.failure(target, &paths, &log));
        }
        if !log.contains("inline 8-bit counters") {
            bail!("the fuzzer sees no coverage: fuzz/rustc-with-coverage did not reach our libraries");
        }
        let stats = Stats::parse(&log);
        println!(
            "{:20} {:7.1} {:11} {:9} {:8} {:6}",
            target.name,
            begun.elapsed().as_secs_f64(),
            stats.executions,
            stats.per_second,
            stats.coverage,
            count(&paths.corpus)?.saturating_sub(known)
        );
        Ok(())
    }

    fn command(&self, target: &Target, paths: &Paths) -> Result<Command> {
        // It stops at the first second that is past the time it was told.
        let seconds = self.each.as_secs().saturating_sub(1).max(1);
        let mut command = Command::new(&self.fuzzer);
        command
            .env(TARGET, &target.name)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={}", target.max_len))
            .arg(format!("-artifact_prefix={}", paths.artifacts.display()))
            .args(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"])
            .arg(&paths.corpus)
            .args(&target.seeds)
            .stderr(fs::File::create(&paths.log)?);
        Ok(command)
    }

    /// Whether it ended by itself; it is ended when another one failed.
    fn wait(&self, child: &mut Child) -> Result<bool> {
        let latest = Instant::now() + self.each + GRACE;
        while child.try_wait()?.is_none() {
            let is_late = Instant::now() > latest;
            if is_late || self.failed.load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                if is_late {
                    bail!("the fuzzer does not end");
                }
                return Ok(false);
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    /// What its log says of the input that it did not survive, and how to see it again.
    fn failure(&self, target: &Target, paths: &Paths, log: &str) -> String {
        let written = log
            .lines()
            .find_map(|line| line.split_once("Test unit written to "))
            .map(|(_, path)| path);
        let said = log
            .lines()
            .filter(|line| line.contains("panicked at") || line.starts_with("SUMMARY"));
        let after = log
            .lines()
            .skip_while(|line| !line.contains("panicked at"))
            .nth(1);
        let said: Vec<_> = said.chain(after).collect();
        let Some(input) = written else {
            return format!("the fuzzer failed; see {}", paths.log.display());
        };
        format!(
            "an input is not survived: {}\n  input: {input}\n  again: {TARGET}={} {} {input}\n  log:   {}\n  Once \
             it is mended, the input belongs into fuzz/corpus/{}",
            said.join("; ").chars().take(300).collect::<String>(),
            target.name,
            self.fuzzer.display(),
            paths.log.display(),
            target.name,
        )
    }
}

/// What a target reads and writes.
struct Paths {
    corpus: PathBuf,
    /// What the names of crashing inputs begin with.
    artifacts: PathBuf,
    log: PathBuf,
}

impl Paths {
    fn of(target: &str) -> Result<Self> {
        let corpus = folder().join("corpus").join(target);
        let artifacts = folder().join("artifacts");
        let logs = folder().join("logs");
        for folder in [&corpus, &artifacts, &logs] {
            fs::create_dir_all(folder)?;
        }
        Ok(Self {
            corpus,
            artifacts: artifacts.join(format!("{target}-")),
            log: logs.join(format!("{target}.log")),
        })
    }
}

fn count(folder: &Path) -> Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

impl Stats {
    fn parse(log: &str) -> Self {
        let stat = |name: &str| {
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
            line.and_then(|line| line.trim_start_matches(':').trim().parse().ok())
                .unwrap_or(0)
        };
        let coverage = log.lines().rev().find_map(|line| line.split_once(" cov: "));
        let coverage = coverage.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Self {
            executions: stat("number_of_executed_units"),
            per_second: stat("average_exec_per_sec"),
            coverage: coverage.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libfuzzer_says_at_its_end() {
        let log = "#4\tINITED cov: 104 ft: 115 corp: 3/96b exec/s: 0 rss: 30Mb\n\
                   #9\tDONE   cov: 206 ft: 300 corp: 8/1Kb exec/s: 7 rss: 30Mb\n\
                   Done 9 runs in 7 second(s)\n\
                   stat::number_of_executed_units: 1020654\n\
                   stat::average_exec_per_sec:     145807\n";
        let expected = Stats {
            executions: 1_020_654,
            per_second: 145_807,
            coverage: 206,
        };
        assert_eq!(Stats::parse(log), expected);
        assert_eq!(Stats::parse(""), Stats::default());
    }
}
