//! What systemd wants to know (Type=notify, WatchdogSec=). Without systemd, nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd that the service serves.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tells systemd that the service is ending.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Tells systemd's watchdog that the runtime still runs, at half the interval it asks for; for ever. Ends at
/// once where there is no watchdog.
pub async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(2)) / 2);
    loop {
        ticks.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    // A supervisor that does not listen is no reason to stop serving.
    let _unheard = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::net::UnixDatagram,
        process::{Command, Stdio},
    };

    use super::*;

    const SOCKET: &str = "NOTIFY_SOCKET";
    const THIS_TEST: &str = "notify::tests::systemd_hears_of_start_life_and_end";

    #[test]
    fn systemd_hears_of_start_life_and_end() {
        if env::var_os(SOCKET).is_some() {
            return be_the_service();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The environment of this very process is every test's.
        let mut service = Command::new(env::current_exe().unwrap())
            .args(["--exact", THIS_TEST])
            .env(SOCKET, &path)
            .env("WATCHDOG_USEC", "20000")
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let heard: Vec<_> = std::iter::from_fn(|| Some(receive(&systemd)))
            .take_while(|message| message != "STOPPING=1")
            .collect();
        assert_eq!(heard[..3], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
        assert!(service.wait().unwrap().success());
    }

    fn receive(systemd: &UnixDatagram) -> String {
        let mut message = [0; 64];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim_end().to_owned()
    }

    fn be_the_service() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            ready();
            // The first tick comes at once, the second after 10 ms.
            let alive = tokio::time::timeout(Duration::from_millis(15), watchdog());
            alive.await.unwrap_err();
        });
        stopping();
    }
}
