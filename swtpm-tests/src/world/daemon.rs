//! A program that keeps running, and what it says.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A program that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    /// How long anything may take. Nothing waits for it but a test that fails.
    deadline: Duration,
    said: Arc<Said>,
}

/// What a program has said so far, on both outputs.
#[derive(Debug, Default)]
struct Said {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    outputs_ended: usize,
}

/// How long anything may take where nothing else is said.
const DEADLINE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Starts a program.
    ///
    /// # Panics
    ///
    /// It can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::start_within(DEADLINE, command)
    }

    /// Starts a program that may take so long for anything.
    pub(crate) fn start_within(deadline: Duration, command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Said::default());
        listen(child.stdout.take().unwrap(), &said);
        listen(child.stderr.take().unwrap(), &said);
        Self {
            name: format!("{command:?}"),
            child,
            deadline,
            said,
        }
    }

    /// Waits until the program has said something with `part` in it, and returns that line.
    ///
    /// # Panics
    ///
    /// It ends without, or takes too long.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_for_more(part, 1)
    }

    /// Waits until the program has said something with `part` in it `times` times, and returns the last such line.
    ///
    /// # Panics
    ///
    /// It ends without, or takes too long.
    pub fn wait_for_more(&self, part: &str, times: usize) -> String {
        let found = |state: &State| {
            let mut with_part = state.lines.iter().filter(|line| line.contains(part));
            with_part.nth(times - 1).cloned()
        };
        self.wait(part, found)
    }

    /// How often the program has said something with `part` in it.
    #[must_use]
    pub fn count(&self, part: &str) -> usize {
        let state = self.said.state.lock().unwrap();
        state.lines.iter().filter(|line| line.contains(part)).count()
    }

    /// All that the program has said.
    pub(crate) fn said(&self) -> String {
        self.said.state.lock().unwrap().lines.join("\n")
    }

    /// Whether it says nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.said.state.lock().unwrap().outputs_ended == 2
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program ends by itself.
    ///
    /// # Panics
    ///
    /// It takes too long.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let said = self.wait("its end", |state| {
            (state.outputs_ended == 2).then(|| state.lines.join("\n"))
        });
        (self.child.wait().unwrap(), said)
    }

    /// Sends the program a signal, such as `STOP`.
    ///
    /// # Panics
    ///
    /// It does not run.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        crate::run(kill.arg(format!("-{name}")).arg(self.child.id().to_string()));
    }

    /// Kills the program, if it still runs.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn wait<T>(&self, what: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + self.deadline;
        let mut state = self.said.state.lock().unwrap();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                state.outputs_ended < 2 && !left.is_zero(),
                "{} did not come to {what}; it said:\n{}",
                self.name,
                state.lines.join("\n")
            );
            state = self.said.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Takes down every line until the output ends. A console says what is no text, too.
fn listen(output: impl Read + Send + 'static, said: &Arc<Said>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            said.state.lock().unwrap().lines.push(line);
            said.changed.notify_all();
        }
        said.state.lock().unwrap().outputs_ended += 1;
        said.changed.notify_all();
    });
}
