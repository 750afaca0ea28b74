//! What a program runs on, where a test wants it other than this machine: a disk that is full, a clock that is wrong, a
//! supervisor that listens.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::supervisor::Supervisor;
use crate::tool::{new_dir, require};

/// Surroundings of a program.
#[derive(Debug, Default)]
pub struct Host {
    disk: Option<Disk>,
    clock: Option<Clock>,
    supervisor: Option<Supervisor>,
}

/// A file system of a few megabytes, which only programs on this host see. It outlives them.
#[derive(Debug)]
struct Disk {
    /// Where it is mounted.
    dir: PathBuf,
    /// Keeps the namespaces. Ends with the test, however that ends: its input is closed then.
    holder: Child,
}

/// A clock apart from this machine's.
#[derive(Debug)]
struct Clock {
    /// How far off it is; read each time that a program asks for the time.
    offset: PathBuf,
}

/// In megabytes: room for the store, the audit trail and what a test adds to them.
const DISK_SIZE: u32 = 16;

impl Host {
    /// A host with a small disk, for the data directory alone.
    ///
    /// # Panics
    ///
    /// The kernel does not let this user mount a file system in a namespace.
    #[must_use]
    pub fn with_small_disk() -> Self {
        Self {
            disk: Some(Disk::mount()),
            ..Self::default()
        }
    }

    /// A host whose clock is off by `offset`, as [`Host::set_clock`] takes it.
    ///
    /// # Panics
    ///
    /// The package `faketime` is missing.
    #[must_use]
    pub fn with_clock(offset: &str) -> Self {
        let library = fake_clock();
        assert!(
            library.exists(),
            "`{}` is missing: apt-get install faketime",
            library.display()
        );
        let clock = Clock {
            offset: new_dir().join("offset"),
        };
        let host = Self {
            clock: Some(clock),
            ..Self::default()
        };
        host.set_clock(offset);
        host
    }

    /// A host with a supervisor that wants to hear from a program as systemd does, and that it is alive twice in
    /// `watchdog`.
    #[must_use]
    pub fn with_supervisor(watchdog: Duration) -> Self {
        Self {
            supervisor: Some(Supervisor::listen(watchdog)),
            ..Self::default()
        }
    }

    /// What the program told its supervisor next.
    ///
    /// # Panics
    ///
    /// It says nothing, or there is no supervisor.
    #[must_use]
    pub fn told(&self) -> String {
        self.supervisor.as_ref().expect("a supervisor").hear()
    }

    /// Sets the clock off by `offset`: `+0`, `+365d`, `-365d`.
    ///
    /// # Panics
    ///
    /// The clock is this machine's.
    pub fn set_clock(&self, offset: &str) {
        let clock = self.clock.as_ref().expect("a clock of its own");
        // Renamed into place: a program that asks for the time meanwhile finds the one or the other.
        let new = clock.offset.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(&new, &clock.offset).unwrap();
    }

    /// Fills the disk to its last byte.
    ///
    /// # Panics
    ///
    /// The disk is this machine's, or something else than its size stops that.
    pub fn fill_disk(&self) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        // Ever smaller pieces: the last page is filled, too.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Frees what [`Host::fill_disk`] filled.
    ///
    /// # Panics
    ///
    /// It is not filled.
    pub fn free_disk(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        let disk = self.disk.as_ref().expect("a disk of its own");
        // The disk, seen by a process in its namespace.
        let root = format!("/proc/{}/root{}", disk.holder.id(), disk.dir.display());
        Path::new(&root).join("filler")
    }

    /// Where a program on this host has its data, if not where it would be otherwise.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        self.disk.as_ref().map(|disk| disk.dir.join("data"))
    }

    /// Runs `program` on this host.
    pub(super) fn command(&self, program: PathBuf) -> Command {
        let mut command = match &self.disk {
            Some(disk) => disk.command(program),
            None => Command::new(program),
        };
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", fake_clock());
            command.env("FAKETIME_TIMESTAMP_FILE", &clock.offset);
            command.env("FAKETIME_NO_CACHE", "1");
            // A clock that is set does not change how long anything takes.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if let Some(supervisor) = &self.supervisor {
            supervisor.watch(&mut command);
        }
        command
    }
}

impl Disk {
    fn mount() -> Self {
        require("unshare");
        let dir = new_dir();
        let script = format!("mount -t tmpfs -o size={DISK_SIZE}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-current-user", "--keep-caps", "--mount"]);
        command.args(["sh", "-c", &script]).arg(&dir);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(holder.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        assert_eq!(
            said, "mounted\n",
            "this user can't mount a file system in a namespace"
        );
        Self { dir, holder }
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.holder.id().to_string();
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &target]);
        command.arg(program);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// The library that answers programs which ask for the time.
fn fake_clock() -> PathBuf {
    let architecture = std::env::consts::ARCH;
    format!("/usr/lib/{architecture}-linux-gnu/faketime/libfaketimeMT.so.1").into()
}
