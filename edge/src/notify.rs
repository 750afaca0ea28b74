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

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(&[NotifyState::Status(line)]);
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
