//! The host's TPM: one thread owns it, everybody else asks.
//!
//! This is the only crate that knows the TPM's software stack (`tss-esapi`, libtss2). [`open`] starts a thread that
//! owns the connection; a [`Handle`] sends it requests and waits for the answers, as
//! [`TpmDevice`](plugin_api::TpmDevice). TPM commands are serial anyway, and take up to seconds.
//!
//! What it keeps to:
//!
//! - In the steady state a quote is one TPM command.
//! - Whatever is loaded is flushed again, also after errors: a TPM has three slots, and not every one is
//!   behind a resource manager.
//! - A connection that broke is opened anew for the next request.
//! - Nobody waits for ever: each request has a limit. A TPM that lets one pass is asked for nothing until it answers.
//! - Passwords of hierarchies are few and go to the TPM in the clear, as usual; credentials come back encrypted.

mod activate;
mod ak;
mod candidate;
mod device;
mod ek;
mod error;
mod handle;
mod keys;
mod nv;
mod owner;
mod pcr;
mod quote;
mod seal;
mod secret;
mod signing;
mod silence;
mod template;

use std::time::Duration;

use plugin_api::TpmError;

pub use handle::Handle;
pub use secret::SecretFile;
pub use silence::silence_library;

/// How to reach the TPM, and what to keep in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The TPM, as libtss2 addresses it, such as `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.
    pub tcti: String,
    /// Password of the endorsement hierarchy, where one is set.
    pub endorsement_auth: Option<SecretFile>,
    /// Password of the owner hierarchy, where one is set: it is needed to make keys persistent.
    pub owner_auth: Option<SecretFile>,
    /// First of the eight persistent handles that may hold attestation keys, one for each trust domain.
    pub attestation_key_handle: u32,
    /// Whether an RSA endorsement key that had to be generated is made persistent: it takes seconds each time.
    pub persist_endorsement_key: bool,
    /// How long the TPM may take for anything but the generation of a key.
    pub answer_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tcti: "device:/dev/tpmrm0".into(),
            endorsement_auth: None,
            owner_auth: None,
            attestation_key_handle: 0x8101_A000,
            persist_endorsement_key: true,
            answer_within: Duration::from_secs(20),
        }
    }
}

/// Starts the thread that owns the TPM, which is opened with the first request. The thread ends with the last clone of
/// the handle.
///
/// # Errors
///
/// There can't be another thread.
pub fn serve(config: Config) -> Result<Handle, TpmError> {
    Handle::start(config)
}

/// The same, and opens the TPM at once.
///
/// # Errors
///
/// The TPM is not there, may not be used, does not answer, or a password file can't be read.
pub fn open(config: Config) -> Result<Handle, TpmError> {
    let handle = serve(config)?;
    handle.open()?;
    Ok(handle)
}
