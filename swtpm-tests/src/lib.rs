//! A software TPM for each test, as real as its maker allows: swtpm, with certificates from a CA of its own; and
//! the whole system around it.
//!
//! [`World`] is a server, agents and their command lines, as processes; a [`Cable`] between them can be cut.
//! [`Swtpm::start`] manufactures a TPM and powers it on; dropping it powers it off and removes its state.
//! [`Proxy`] sits between a program and the TPM: it counts commands, and does what an interposer would do.
//! [`SoftwareTpm`] is a prover without any TPM: for load, for properties, and for what no TPM would do.
//! A missing program is a failure, never a skipped test.

mod ca;
mod kernel;
mod log;
mod manufacture;
mod operate;
mod ports;
mod process;
mod proxy;
mod software;
mod swtpm;
mod tool;
mod wire;
mod world;

pub use ca::{ca_certificates, write_ca_certificates};
pub use kernel::KernelEntry;
pub use log::{Extend, Measured, read_log};
pub use ports::free as free_port;
pub use proxy::Proxy;
pub use software::{SoftwareTpm, structures, vendor};
pub use swtpm::{Options, Startup, Swtpm};
pub use tool::{new_dir, run, work_in};
pub use world::{
    Agent, Cable, Daemon, Host, Machine, World, agent_cli, agent_id, go_client, python_client, uid,
};
