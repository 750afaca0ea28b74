//! A guest that runs.

use std::{
    fmt::Write,
    fs,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use attest::HashAlg;
use serde_json::Value;

use super::{
    Chip, DEADLINE, Disk, SERVER,
    line::{Gone, Line, Listener},
    machine::{REFUSED, Running},
    monitor::Monitor,
};
use crate::{wire, world::Daemon};

/// A machine that has booted. Dropping it cuts its power.
#[derive(Debug)]
pub struct Guest {
    machine: Running,
    shell: Line,
    monitor: Monitor,
}

/// What a guest is told of the server that has none.
const NOWHERE: &str = "127.0.0.1:9";
/// What the shell says behind the output of a command, before its exit code.
const DONE: &str = "== done";

impl Guest {
    /// Boots `disk` on a machine with this TPM, whose network leads to the server at `server` and nowhere else. Returns
    /// when the guest takes orders.
    ///
    /// # Panics
    ///
    /// It does not boot in time, or the firmware refuses to start what is on the disk.
    #[must_use]
    pub fn boot(disk: &Disk, tpm: &Chip, server: &str) -> Self {
        let (machine, lines) = Running::start(disk, tpm, server);
        let [shell, monitor] = lines.map(|line| answered(&line, &machine));
        let mut guest = Self {
            machine,
            shell,
            monitor: Monitor::on(monitor),
        };
        guest.run("true");
        guest.machine.booted();
        guest
    }

    /// Waits until the firmware of a machine with this TPM has refused to start what is on `disk`.
    ///
    /// # Panics
    ///
    /// It starts it, or takes too long.
    pub fn refused(disk: &Disk, tpm: &Chip) {
        let (machine, lines) = Running::start(disk, tpm, NOWHERE);
        machine.console().wait_for(REFUSED);
        drop(lines);
    }

    /// Runs a command in the guest's shell, as root, and returns what it printed.
    ///
    /// # Panics
    ///
    /// It fails, or does not end in time.
    pub fn run(&mut self, command: &str) -> String {
        let (status, said) = self.outcome(command);
        assert_eq!(status, 0, "`{command}` failed in the guest: {said}");
        said
    }

    /// Runs a command in the guest's shell, as root; its exit code and what it printed, whatever comes of it.
    ///
    /// # Panics
    ///
    /// It does not end in time.
    pub fn outcome(&mut self, command: &str) -> (i32, String) {
        self.shell.say(&format!("{{ {command}\n}} </dev/null 2>&1"));
        // Behind an output that does not end its line, too.
        self.shell.say(&format!("echo \"\n{DONE} $?\""));
        let deadline = Instant::now() + DEADLINE;
        let mut said = String::new();
        loop {
            let line = match self.shell.hear() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    still_waits(&self.machine, command, deadline);
                    continue;
                }
                Err(Gone) => fail(&self.machine, command, "the emulator ended"),
            };
            if let Some(status) = line.strip_prefix(DONE) {
                return (status.trim().parse().unwrap(), said.trim_end().to_owned());
            }
            writeln!(said, "{line}").unwrap();
        }
    }

    /// Runs a command that prints JSON.
    ///
    /// # Panics
    ///
    /// It fails, or prints something else.
    pub fn json(&mut self, command: &str) -> Value {
        let said = self.run(command);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("`{command}` ({error}): {said}"))
    }

    /// What is in one of the guest's files.
    ///
    /// # Panics
    ///
    /// It can't be read.
    pub fn read(&mut self, path: &str) -> Vec<u8> {
        let digits: String = self.run(&format!("xxd -p {path}")).split_whitespace().collect();
        hex::decode(digits).unwrap()
    }

    /// Writes one of the guest's files.
    pub fn write(&mut self, path: &str, content: &[u8]) {
        let digits = hex::encode(content);
        // Lines that any shell takes.
        let lines: Vec<_> = digits
            .as_bytes()
            .chunks(1000)
            .map(String::from_utf8_lossy)
            .collect();
        self.run(&format!(": >{path}.hex"));
        for line in lines {
            self.run(&format!("echo {line} >>{path}.hex"));
        }
        self.run(&format!("xxd -r -p {path}.hex >{path} && rm {path}.hex"));
    }

    /// Starts the agent, which trusts the server by `bundle`. What it logs is on the [console](Self::console).
    pub fn start_agent(&mut self, bundle: &Path) {
        self.set_clock();
        self.write("/etc/plastron/bundle.pem", &fs::read(bundle).unwrap());
        self.run("plastron-agent run >/dev/ttyS0 2>&1 &");
    }

    /// Starts the intruder that the disk brings, in the agent's place: `lie` is what it answers with once the guest is
    /// changed. What comes of it is on the [console](Self::console).
    pub fn start_intruder(&mut self, lie: &str) {
        self.set_clock();
        let (address, port) = SERVER;
        self.run(&format!(
            "/mnt/intruder {lie} {address} {port} >/dev/ttyS0 2>&1 &"
        ));
    }

    /// Extends a PCR, as a program does that took the host over; since when, at the earliest.
    pub fn extend(&mut self, pcr: u8) -> Instant {
        let command = wire::extend(pcr.into(), &[(HashAlg::Sha256, vec![1; 32])]);
        self.write("/run/extend", &command);
        let value = format!("cat /sys/class/tpm/tpm0/pcr-sha256/{pcr}");
        let before = self.run(&value);
        let begun = Instant::now();
        self.run("cat /run/extend >/dev/tpmrm0");
        assert_ne!(self.run(&value), before, "PCR {pcr} was not extended");
        begun
    }

    /// Stops the guest's processor: it falls silent, and its connections stay.
    pub fn pause(&mut self) {
        self.monitor.order("stop");
    }

    /// Has it go on.
    pub fn resume(&mut self) {
        self.monitor.order("cont");
        self.set_clock();
    }

    /// What a time daemon does: in emulation a clock runs as fast as the processor allows.
    fn set_clock(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.run(&format!("date -u -s @{}", now.as_secs()));
    }

    /// What firmware, kernel and agent say.
    #[must_use]
    pub fn console(&self) -> &Daemon {
        self.machine.console()
    }
}

/// The call of the emulator.
fn answered(listener: &Listener, machine: &Running) -> Line {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(line) = listener.accept() {
            return line;
        }
        still_waits(machine, "start", deadline);
        std::thread::yield_now();
    }
}

/// Fails where there is nothing to wait for any more.
fn still_waits(machine: &Running, what: &str, deadline: Instant) {
    let qemu = machine.console();
    let problem = if qemu.count(REFUSED) > 0 {
        "the firmware refused what is on the disk"
    } else if qemu.has_ended() {
        "the emulator ended"
    } else if Instant::now() > deadline {
        "it takes too long"
    } else {
        return;
    };
    fail(machine, what, problem);
}

fn fail(machine: &Running, what: &str, problem: &str) -> ! {
    panic!(
        "guest, `{what}`: {problem}; it said:\n{}",
        machine.console().said()
    );
}
