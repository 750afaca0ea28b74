//! Attestation of workloads: what the kernel says of a process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use svid::Selector;

/// Finds selectors of a process. Calls block for as long as the kernel takes.
pub trait WorkloadAttestor: Send + Sync {
    /// The kind of its selectors, such as `unix`.
    fn name(&self) -> &'static str;

    /// What can be said of `process`.
    ///
    /// # Errors
    ///
    /// The process is gone, or can't be inspected.
    fn attest(&self, process: &Process) -> Result<Vec<Selector>, WorkloadAttestError>;
}

/// A process, held by a pidfd: its number can't come to mean another one.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// User that it connected as.
    pub uid: u32,
    /// Group that it connected as.
    pub gid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// A process that `pidfd` refers to.
    #[must_use]
    pub fn new(pid: i32, uid: u32, gid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, uid, gid, pidfd }
    }

    /// Becomes readable when the process ends.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A process can't be attested.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadAttestError {
    /// It ended.
    #[error("process {0} ended")]
    Gone(i32),
    /// The kernel does not say.
    #[error("cannot read `{path}`")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel says something unexpected.
    #[error("cannot understand `{0}`")]
    Malformed(String),
}
