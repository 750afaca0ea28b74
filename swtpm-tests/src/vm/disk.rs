//! Disks that firmware boots from.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Uki, initrd::strip};
use crate::tool::{new_dir, require, run};

/// A disk with one partition, where the kernel image is and the agent keeps its state. Dropping it removes it.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

const SECTOR: u64 = 512;
/// Where the partition begins, in sectors.
const BEGIN: u64 = 2048;
/// What is behind it: the other copy of the partition table.
const BEHIND: u64 = 2048;
/// Room beside the image, in bytes. FAT32 wants 32 MiB at least.
const ROOM: u64 = 40 << 20;
/// An EFI system partition.
const KIND: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

impl Disk {
    /// A disk that boots `uki`.
    ///
    /// # Panics
    ///
    /// It can't be made.
    #[must_use]
    pub fn with(uki: &Uki) -> Self {
        let disk = Self { dir: new_dir() };
        let sectors = (fs::metadata(uki.path()).unwrap().len() + ROOM).div_ceil(2 * SECTOR) * 2;
        let file = File::create(disk.path()).unwrap();
        file.set_len((BEGIN + sectors + BEHIND) * SECTOR).unwrap();
        disk.divide(sectors);
        let mut mkfs = Command::new("/usr/sbin/mkfs.vfat");
        mkfs.args(["-F", "32", "-s", "1", "-n", "ESP", "--offset", &BEGIN.to_string()]);
        // In blocks of 1 KiB.
        run(mkfs.arg(disk.path()).arg((sectors / 2).to_string()));
        let mut mmd = Command::new("mmd");
        mmd.args(["-i", &disk.partition()]);
        run(mmd.args(["::/EFI", "::/EFI/BOOT", "::/agent"]));
        disk.copy_in(&uki.path(), "EFI/BOOT/BOOTX64.EFI");
        disk
    }

    /// Brings a program of ours, which needs no library but those that the agent needs: what boots is not changed by
    /// it. A guest has it in `/mnt`.
    ///
    /// # Panics
    ///
    /// There is no room for it.
    #[must_use]
    pub fn bringing(self, program: &Path) -> Self {
        let name = program.file_name().unwrap().to_str().unwrap();
        let stripped = self.dir.join(name);
        strip(program, &stripped);
        self.copy_in(&stripped, name);
        fs::remove_file(stripped).unwrap();
        self
    }

    /// Another disk with all that is on this one.
    ///
    /// # Panics
    ///
    /// It can't be made.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self { dir: new_dir() };
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(self.path())
            .arg(copy.path()));
        copy
    }

    /// The file that is the disk.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// The partition, as mtools address it.
    fn partition(&self) -> String {
        format!("{}@@{}", self.path().display(), BEGIN * SECTOR)
    }

    fn copy_in(&self, file: &Path, to: &str) {
        let mut mcopy = Command::new("mcopy");
        mcopy.args(["-i", &self.partition()]).arg(file);
        run(mcopy.arg(format!("::/{to}")));
    }

    fn divide(&self, sectors: u64) {
        let sfdisk = "/usr/sbin/sfdisk";
        require(sfdisk);
        let table = format!("label: gpt\nstart={BEGIN}, size={sectors}, type={KIND}\n");
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo \"$0\" | \"$1\" --quiet \"$2\"", &table, sfdisk]);
        run(shell.arg(self.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}
