//! The emulator, and what a machine is made of.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use super::{Chip, DEADLINE, Disk, SERVER, line::Listener, slots::Slot};
use crate::{
    tool::{new_dir, require},
    world::Daemon,
};

/// A machine under power. Dropping it cuts that.
#[derive(Debug)]
pub(super) struct Running {
    qemu: Daemon,
    dir: PathBuf,
    begun: Instant,
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
pub(super) const REFUSED: &str = "Access Denied";

impl Running {
    /// Starts a machine, whose network leads to the server at `server` and nowhere else. Its shell and its monitor call.
    pub(super) fn start(disk: &Disk, tpm: &Chip, server: &str) -> (Self, [Listener; 2]) {
        let slot = Slot::wait();
        let begun = Instant::now();
        let dir = new_dir();
        let lines = ["shell.sock", "monitor.sock"].map(|name| dir.join(name));
        let listeners = [&lines[0], &lines[1]].map(|path| Listener::at(path));
        let tpm_under_power = tpm.power_on();
        let variables = dir.join("variables");
        fs::copy(VARIABLES, &variables)
            .unwrap_or_else(|error| panic!("`{VARIABLES}`: {error}; apt-get install ovmf"));
        let mut command = qemu();
        attach_firmware(&mut command, &variables);
        attach_tpm(&mut command, tpm);
        attach_disk(&mut command, disk);
        attach_network(&mut command, server);
        attach_lines(&mut command, &lines);
        let machine = Self {
            qemu: Daemon::start_within(DEADLINE, &mut command),
            dir,
            begun,
            _tpm: tpm_under_power,
            _slot: slot,
        };
        (machine, listeners)
    }

    /// What it says on its console.
    pub(super) fn console(&self) -> &Daemon {
        &self.qemu
    }

    /// Says how long the boot took.
    pub(super) fn booted(&self) {
        say(&format!("booted in {} s", self.begun.elapsed().as_secs()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.qemu.kill();
        say(&format!(
            "ran {:.1} min",
            self.begun.elapsed().as_secs_f64() / 60.0
        ));
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Says what guests take of a run: past the harness, which keeps what tests print that pass.
fn say(what: &str) {
    writeln!(io::stderr(), "guest: {what}").ok();
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
    require("nc.openbsd");
    let (address, port) = SERVER;
    let (host, host_port) = server.split_once(':').expect("address and port");
    qemu.arg("-netdev");
    qemu.arg(format!(
        "user,id=net,restrict=on,guestfwd=tcp:{address}:{port}-cmd:nc.openbsd -N {host} {host_port}"
    ));
    qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
}

fn attach_lines(qemu: &mut Command, [shell, monitor]: &[PathBuf; 2]) {
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
