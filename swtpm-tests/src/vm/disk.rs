//! Disks that firmware boots from.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use super::Uki;
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
        disk.partition(sectors);
        let mut mkfs = Command::new("/usr/sbin/mkfs.vfat");
        mkfs.args(["-F", "32", "-s", "1", "-n", "ESP", "--offset", &BEGIN.to_string()]);
        // In blocks of 1 KiB.
        run(mkfs.arg(disk.path()).arg((sectors / 2).to_string()));
        let partition = format!("{}@@{}", disk.path().display(), BEGIN * SECTOR);
        run(Command::new("mmd").args(["-i", &partition, "::/EFI", "::/EFI/BOOT", "::/agent"]));
        let mut copy = Command::new("mcopy");
        run(copy
            .args(["-i", &partition])
            .arg(uki.path())
            .arg("::/EFI/BOOT/BOOTX64.EFI"));
        disk
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

    fn partition(&self, sectors: u64) {
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
