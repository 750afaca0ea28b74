//! Who is at the other end of a connection: pinned when it connected, looked at again for each call.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
};

use edge::local::Peer;
use plugin_api::{Process, WorkloadAttestError, WorkloadAttestor};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    time::Timespec,
};
use svid::SelectorSet;
use tracing::{debug, warn};

/// A process that connected, held by a pidfd: its number can't come to mean another one.
#[derive(Debug)]
pub struct Caller {
    process: Arc<Process>,
    identified: Mutex<Option<(Traits, SelectorSet)>>,
}

/// What must be the same for what was found to stand.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Traits {
    /// Device and inode of the executable.
    executable: (u64, u64),
    /// User, group and further groups, as the kernel prints them.
    ids: String,
}

/// A workload can't be identified.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// No attestor found anything.
    #[error("no workload attestor could look at process {pid}")]
    Attestors {
        /// The process.
        pid: i32,
        /// What the last of them said.
        source: WorkloadAttestError,
    },
    /// The process has ended.
    #[error("process {0} ended")]
    Gone(i32),
    /// It lives in a process namespace that we can't see into.
    #[error("process is in a process namespace that is not visible from here")]
    Invisible,
    /// The kernel does not say who connected.
    #[error("kernel does not say who connected")]
    Peer(#[source] io::Error),
    /// The kernel does not say what the process is.
    #[error("cannot look at process {pid}")]
    Proc {
        /// The process.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// The runtime is ending.
    #[error("agent is stopping")]
    Stopping,
}

impl Caller {
    /// Pins the process that connected.
    ///
    /// # Errors
    ///
    /// It is gone, or not visible.
    pub fn new(peer: Peer) -> Result<Self, CallerError> {
        let pid = Pid::from_raw(peer.pid).ok_or(CallerError::Invisible)?;
        let pidfd = match peer.pidfd {
            Some(pidfd) => pidfd,
            // Before Linux 6.5 there is a moment between connect and here in which the number could pass on.
            None => pidfd_open(pid, PidfdFlags::empty()).map_err(|_| CallerError::Gone(peer.pid))?,
        };
        let process = Arc::new(Process::new(peer.pid, peer.uid, peer.gid, pidfd));
        Ok(Self {
            process,
            identified: Mutex::new(None),
        })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Its selectors. What was found before stands while process, executable and ids are the same.
    ///
    /// # Errors
    ///
    /// It ended, or nothing can be found.
    pub async fn identify(
        &self,
        attestors: &Arc<[Arc<dyn WorkloadAttestor>]>,
    ) -> Result<SelectorSet, CallerError> {
        let traits = self.look()?;
        if let Some(selectors) = self.known(&traits) {
            return Ok(selectors);
        }
        let (process, attestors) = (Arc::clone(&self.process), Arc::clone(attestors));
        let found = tokio::task::spawn_blocking(move || attest(&process, &attestors)).await;
        let selectors = found.map_err(|_| CallerError::Stopping)??;
        // Whoever was looked at is whoever connected only if that one still lives, and did not change.
        if self.look()? != traits {
            return Err(CallerError::Gone(self.pid()));
        }
        debug!(pid = self.pid(), count = selectors.len(), "Workload attested");
        *self.identified.lock().unwrap_or_else(PoisonError::into_inner) = Some((traits, selectors.clone()));
        Ok(selectors)
    }

    fn known(&self, traits: &Traits) -> Option<SelectorSet> {
        let identified = self.identified.lock().unwrap_or_else(PoisonError::into_inner);
        identified
            .as_ref()
            .filter(|(then, _)| then == traits)
            .map(|(_, selectors)| selectors.clone())
    }

    fn look(&self) -> Result<Traits, CallerError> {
        let pid = self.pid();
        let failed = |source| CallerError::Proc { pid, source };
        let executable = fs::metadata(format!("/proc/{pid}/exe")).map_err(failed)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
        let is_id = |line: &&str| {
            ["Uid:", "Gid:", "Groups:"]
                .iter()
                .any(|name| line.starts_with(name))
        };
        let traits = Traits {
            executable: (executable.dev(), executable.ino()),
            ids: status.lines().filter(is_id).collect::<Vec<_>>().join("\n"),
        };
        self.check_alive()?;
        Ok(traits)
    }

    /// A pidfd is readable once its process has ended. Looked at last, it vouches for what was read before.
    fn check_alive(&self) -> Result<(), CallerError> {
        let pidfd = self.process.pidfd();
        let ended = poll(
            &mut [PollFd::new(&pidfd, PollFlags::IN)],
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        );
        match ended {
            Ok(0) => Ok(()),
            _ => Err(CallerError::Gone(self.pid())),
        }
    }
}

/// What all attestors find. One that fails is left out, unless all do.
fn attest(process: &Process, attestors: &[Arc<dyn WorkloadAttestor>]) -> Result<SelectorSet, CallerError> {
    let mut found = Vec::new();
    let mut failure = None;
    let mut succeeded = attestors.is_empty();
    for attestor in attestors {
        match attestor.attest(process) {
            Ok(selectors) => {
                succeeded = true;
                found.extend(selectors);
            }
            Err(error) => {
                warn!(attestor = attestor.name(), pid = process.pid, error = %edge::Chain(&error), "Workload attestor failed");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(source) if !succeeded => Err(CallerError::Attestors {
            pid: process.pid,
            source,
        }),
        _ => Ok(found.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        process::{Child, Command, Stdio},
    };

    use svid::Selector;

    use super::*;

    struct Fixed;

    impl WorkloadAttestor for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn attest(&self, process: &Process) -> Result<Vec<Selector>, WorkloadAttestError> {
            Ok(vec![
                Selector::new("fixed", &format!("pid:{}", process.pid)).unwrap(),
            ])
        }
    }

    struct Failing;

    impl WorkloadAttestor for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn attest(&self, process: &Process) -> Result<Vec<Selector>, WorkloadAttestError> {
            Err(WorkloadAttestError::Gone(process.pid))
        }
    }

    fn child() -> (Child, Caller) {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let caller = Caller::new(Peer {
            pid,
            uid: 0,
            gid: 0,
            pidfd: None,
        })
        .unwrap();
        (child, caller)
    }

    async fn identify(
        caller: &Caller,
        attestors: Vec<Arc<dyn WorkloadAttestor>>,
    ) -> Result<usize, CallerError> {
        caller
            .identify(&attestors.into())
            .await
            .map(|selectors| selectors.len())
    }

    #[tokio::test]
    async fn a_process_is_identified_while_it_lives() {
        let (mut child, caller) = child();
        assert_eq!(identify(&caller, vec![Arc::new(Fixed)]).await.unwrap(), 1);
        assert_eq!(identify(&caller, vec![Arc::new(Fixed)]).await.unwrap(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(identify(&caller, vec![Arc::new(Fixed)]).await.is_err());
    }

    #[tokio::test]
    async fn a_zombie_is_gone() {
        let (mut child, caller) = child();
        child.kill().unwrap();
        // Its entry in /proc stays until somebody waits for it; its pidfd says that it ended.
        while caller.check_alive().is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(identify(&caller, vec![Arc::new(Fixed)]).await.is_err());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn one_failing_attestor_is_left_out_and_all_failing_refuse() {
        let (mut child, caller) = child();
        let failed = identify(&caller, vec![Arc::new(Failing)]).await.unwrap_err();
        assert!(matches!(failed, CallerError::Attestors { .. }));
        assert_eq!(
            identify(&caller, vec![Arc::new(Failing), Arc::new(Fixed)])
                .await
                .unwrap(),
            1
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Finds the name of the executable.
    struct Executable;

    impl WorkloadAttestor for Executable {
        fn name(&self) -> &'static str {
            "executable"
        }

        fn attest(&self, process: &Process) -> Result<Vec<Selector>, WorkloadAttestError> {
            let path = fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            Ok(vec![Selector::new("executable", name).unwrap()])
        }
    }

    #[tokio::test]
    async fn what_replaces_a_process_by_exec_gets_nothing_of_its_predecessor() {
        let mut child = Command::new("sh")
            .args(["-c", "echo before; read go; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let peer = Peer {
            pid,
            uid: 0,
            gid: 0,
            pidfd: None,
        };
        let caller = Caller::new(peer).unwrap();
        let attestors: Arc<[Arc<dyn WorkloadAttestor>]> = Arc::new([Arc::new(Executable)]);
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());

        let mut line = [0; 7];
        stdout.read_exact(&mut line).unwrap();
        let before = caller.identify(&attestors).await.unwrap();
        // What comes back comes from cat: `read` takes its line and nothing more.
        stdin.write_all(b"go\nafter\n").unwrap();
        stdout.read_exact(&mut line[..6]).unwrap();
        let after = caller.identify(&attestors).await.unwrap();

        assert!(after.contains(&Selector::new("executable", "cat").unwrap()));
        assert!(!after.intersects(&before), "{before:?} {after:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_of_another_namespace_is_refused() {
        let refused = Caller::new(Peer {
            pid: 0,
            uid: 0,
            gid: 0,
            pidfd: None,
        })
        .unwrap_err();
        assert!(matches!(refused, CallerError::Invisible));
    }
}
