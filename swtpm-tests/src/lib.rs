//! A software TPM for each test, as real as its maker allows: swtpm, with certificates from a CA of its own; and
//! the whole system around it.
//!
//! [`World`] is a server, agents and their command lines, as processes; a [`Cable`] between them can be cut.
//! [`vm::Guest`] is a machine that boots for real, in emulation.
//! [`Swtpm::start`] manufactures a TPM and powers it on; dropping it powers it off and removes its state.
//! [`Proxy`] sits between a program and the TPM: it counts commands, and does what an interposer would do.
//! [`SoftwareTpm`] is a prover without any TPM: for load, for properties, and for what no TPM would do; [`tampered`] is
//! every change of a byte of what it says.
//! With the feature `parties`, a host and a server talk without a network; with `fleet`, many hosts are in one process.
//! A missing program is a failure, never a skipped test.

mod alone;
mod ca;
#[cfg(feature = "fleet")]
pub mod fleet;
mod kernel;
mod log;
mod manufacture;
mod operate;
#[cfg(feature = "parties")]
pub mod parties;
mod ports;
mod process;
mod proxy;
mod software;
mod swtpm;
mod tampering;
mod tool;
#[cfg(target_arch = "x86_64")]
pub mod vm;
mod wire;
mod world;

pub use alone::{Alone, FLOOD, alone};
pub use ca::{ca_certificates, write_ca_certificates};
pub use kernel::KernelEntry;
pub use log::{Extend, Measured, read_log};
pub use ports::free as free_port;
pub use proxy::Proxy;
pub use software::{SoftwareTpm, platform, structures, vendor};
pub use swtpm::{Options, Startup, Swtpm};
pub use tampering::{Change, Tampered, flipped, tampered};
pub use tool::{new_dir, run, work_in};
pub use world::{
    Agent, Cable, Daemon, Host, Machine, World, agent_cli, agent_id, agent_outcome, go_client, python_client,
    server_cli, uid,
};
