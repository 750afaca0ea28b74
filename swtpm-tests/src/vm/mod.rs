//! A machine that boots for real, in emulation: firmware (OVMF), Secure Boot, a unified kernel image, Linux, the agent.
//!
//! [`Uki`] is what boots: Debian's kernel, the agent and a shell, signed with a key that the firmware knows. [`Disk`] has
//! it, and room for the agent's state; [`Chip`] is a TPM. [`Guest::boot`] puts them together, and [`Guest::run`] types at
//! the guest's console. [`Guest::start_intruder`] has a program there that took the agent's place. There is no KVM on
//! machines that run tests: a boot is a quarter of a minute of processor time.

mod chip;
mod disk;
mod guest;
mod initrd;
mod kernel;
mod line;
mod machine;
mod monitor;
mod slots;
mod uki;

pub use chip::Chip;
pub use disk::Disk;
pub use guest::Guest;
pub use uki::Uki;

use std::time::Duration;

/// How long a boot may take: on a busy machine it takes more than a minute.
const DEADLINE: Duration = Duration::from_secs(180);

/// The address at which a guest finds the server; the emulator joins each connection to the server's own.
const SERVER: (&str, u16) = ("10.0.2.100", 8443);
