//! The emulator's monitor (QMP).

use std::time::Instant;

use serde_json::{Value, json};

use super::{DEADLINE, line::Line};

/// Orders for the emulator.
#[derive(Debug)]
pub(super) struct Monitor(Line);

impl Monitor {
    pub(super) fn on(line: Line) -> Self {
        let mut monitor = Self(line);
        monitor.order("qmp_capabilities");
        monitor
    }

    /// Has an order carried out.
    pub(super) fn order(&mut self, order: &str) {
        self.0.say(&json!({ "execute": order }).to_string());
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(
                Instant::now() < deadline,
                "the emulator does not answer to {order}"
            );
            let Some(line) = self.0.hear().expect("an emulator") else {
                continue;
            };
            // Greetings and events come in between.
            let said: Value = serde_json::from_str(&line).unwrap();
            assert!(said.get("error").is_none(), "{order}: {said}");
            if said.get("return").is_some() {
                return;
            }
        }
    }
}
