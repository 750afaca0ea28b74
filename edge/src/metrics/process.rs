//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::fs;

use super::{Kind, Registry};

/// Units of processor time in `/proc`: USER_HZ, part of the kernel's interface and 100 wherever we build.
const TICKS: f64 = 100.0;
const KIB: u64 = 1024;

/// Adds processor time, memory and open files.
pub fn register(registry: &mut Registry) {
    registry.add(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Processor time that the process took, in seconds.",
        |samples| {
            if let Some(ticks) = cpu_ticks() {
                samples.float(&[], ticks / TICKS);
            }
        },
    );
    registry.add(
        Kind::Gauge,
        "process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        |samples| {
            if let Some(bytes) = resident() {
                samples.number(&[], bytes);
            }
        },
    );
    registry.add(
        Kind::Gauge,
        "process_open_fds",
        "File descriptors that are open.",
        |samples| {
            if let Ok(open) = fs::read_dir("/proc/self/fd") {
                samples.number(&[], open.count() as u64);
            }
        },
    );
}

/// utime and stime: the 12th and 13th field after the name, which may hold anything.
fn cpu_ticks() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<f64>().ok()).sum()
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * KIB)
}
