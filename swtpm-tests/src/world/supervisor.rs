//! What systemd is to a service of Type=notify: a socket, and a deadline between signs of life.

use std::{os::unix::net::UnixDatagram, path::PathBuf, process::Command, time::Duration};

use crate::tool::new_dir;

/// Hears what programs say about themselves.
#[derive(Debug)]
pub(super) struct Supervisor {
    path: PathBuf,
    socket: UnixDatagram,
    watchdog: Duration,
}

/// How long a program may be silent. Nothing waits for it but a test that fails.
const DEADLINE: Duration = Duration::from_secs(60);

impl Supervisor {
    pub(super) fn listen(watchdog: Duration) -> Self {
        let path = new_dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            path,
            socket,
            watchdog,
        }
    }

    /// Has `command` tell this supervisor.
    pub(super) fn watch(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
        command.env("WATCHDOG_USEC", self.watchdog.as_micros().to_string());
        command.env_remove("WATCHDOG_PID");
    }

    /// The next message.
    pub(super) fn hear(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).trim_end().to_owned()
    }
}
