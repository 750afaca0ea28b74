//! A guest that runs.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use attest::HashAlg;
use serde_json::Value;

use super::{
    Chip, DEADLINE, Disk, SERVER,
    line::{Line, Listener},
    monitor::Monitor,
    slots::Slot,
};
use crate::{
    tool::{new_dir, require},
    wire,
    world::Daemon,
};

/// A machine that has booted. Dropping it cuts its power.
#[derive(Debug)]
pub struct Guest {
    qemu: Daemon,
    shell: Line,
    monitor: Monitor,
    dir: PathBuf,
    begun: Instant,
    booted: Duration,
    // After all that ends before another guest may run.
    _tpm: Daemon,
    _slot: Slot,
}

/// Firmware that checks signatures, and its variables with Debian's test keys in them.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
/// Megabytes. What firmware measures depends on it.
const MEMORY: &str = "384";
/// What the firmware says of an image that it does not start.
const REFUSED: &str = "Access Denied";
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
        let slot = Slot::wait();
        let begun = Instant::now();
        let dir = new_dir();
        let (shell, monitor) = (dir.join("shell.sock"), dir.join("monitor.sock"));
        let listeners = [&shell, &monitor].map(|path| Listener::at(path));
        let _tpm = tpm.power_on();
        let variables = dir.join("variables");
        fs::copy(VARIABLES, &variables)
            .unwrap_or_else(|error| panic!("`{VARIABLES}`: {error}; apt-get install ovmf"));
        let mut command = qemu();
        attach_firmware(&mut command, &variables);
        attach_tpm(&mut command, tpm);
        attach_disk(&mut command, disk);
        attach_network(&mut command, server);
        attach_lines(&mut command, &shell, &monitor);
        let qemu = Daemon::start_within(DEADLINE, &mut command);
        let [shell, monitor] = listeners.map(|listener| answered(&listener, &qemu));
        let mut guest = Self {
            qemu,
            shell,
            monitor: Monitor::on(monitor),
            dir,
            begun,
            booted: Duration::ZERO,
            _tpm,
            _slot: slot,
        };
        guest.run("true");
        guest.booted = begun.elapsed();
        guest
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
            let Some(line) = self.shell.hear() else {
                still_waits(&self.qemu, command, deadline);
                continue;
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
        &self.qemu
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.qemu.kill();
        let (booted, minutes) = (self.booted.as_secs(), self.begun.elapsed().as_secs_f64() / 60.0);
        // Past the harness, which keeps what tests print that pass: what guests take of a run is to be seen.
        let mut error = io::stderr();
        writeln!(error, "guest: booted in {booted} s, ran {minutes:.1} min").ok();
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A program that ends with this process, however that ends.
pub(super) fn mortal(program: &str) -> Command {
    require(program);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// A machine without anything: one processor, emulated, whose power goes off where it would start again.
fn qemu() -> Command {
    let mut qemu = mortal("qemu-system-x86_64");
    qemu.args(["-machine", "q35,smm=off,vmport=off", "-cpu", "max", "-smp", "1"]);
    qemu.args(["-accel", "tcg,thread=multi", "-m", MEMORY]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    qemu.args(["-serial", "stdio"]);
    qemu
}

fn attach_firmware(qemu: &mut Command, variables: &Path) {
    qemu.arg("-drive");
    qemu.arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}"));
    qemu.arg("-drive");
    qemu.arg(format!(
        "if=pflash,unit=1,format=raw,file={}",
        variables.display()
    ));
}

fn attach_tpm(qemu: &mut Command, tpm: &Chip) {
    let socket = tpm.socket();
    qemu.arg("-chardev");
    qemu.arg(format!("socket,id=chip,path={}", socket.display()));
    qemu.args([
        "-tpmdev",
        "emulator,id=tpm,chardev=chip",
        "-device",
        "tpm-crb,tpmdev=tpm",
    ]);
}

fn attach_disk(qemu: &mut Command, disk: &Disk) {
    let path = disk.path();
    qemu.arg("-drive");
    qemu.arg(format!("if=none,id=disk,format=raw,file={}", path.display()));
    qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
}

/// The emulator starts a program for each connection to the server, and lets nothing else out.
fn attach_network(qemu: &mut Command, server: &str) {
    require("nc");
    let (address, port) = SERVER;
    let (host, host_port) = server.split_once(':').expect("address and port");
    qemu.arg("-netdev");
    qemu.arg(format!(
        "user,id=net,restrict=on,guestfwd=tcp:{address}:{port}-cmd:nc -N {host} {host_port}"
    ));
    qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
}

fn attach_lines(qemu: &mut Command, shell: &Path, monitor: &Path) {
    qemu.arg("-chardev");
    qemu.arg(format!("socket,id=shell,path={}", shell.display()));
    qemu.args([
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=shell",
    ]);
    qemu.arg("-chardev");
    qemu.arg(format!("socket,id=monitor,path={}", monitor.display()));
    qemu.args(["-mon", "chardev=monitor,mode=control"]);
}

/// The call of the emulator.
fn answered(listener: &Listener, qemu: &Daemon) -> Line {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(line) = listener.accept() {
            return line;
        }
        still_waits(qemu, "start", deadline);
        std::thread::yield_now();
    }
}

/// Fails where there is nothing to wait for any more.
fn still_waits(qemu: &Daemon, what: &str, deadline: Instant) {
    let problem = if qemu.count(REFUSED) > 0 {
        "the firmware refused what is on the disk"
    } else if qemu.has_ended() {
        "the emulator ended"
    } else if Instant::now() > deadline {
        "it takes too long"
    } else {
        return;
    };
    panic!("guest, `{what}`: {problem}; it said:\n{}", qemu.said());
}
