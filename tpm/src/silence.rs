//! libtss2 writes its own errors to standard error. They say nothing that ours don't, and are not in our format.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// The variable by which libtss2 takes its log levels.
const VARIABLE: &str = "TSS2_LOG";

/// Starts this program again, in the same process, with libtss2 silent. Call it first thing in `main`; it returns
/// if `TSS2_LOG` is set already.
///
/// libtss2 reads the variable from the environment of the process, and to set that from within takes `unsafe`.
/// A service manager may set `TSS2_LOG=all+NONE` itself, which saves the second start.
///
/// # Errors
///
/// The program can't be started again.
pub fn silence_library() -> io::Result<()> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).env(VARIABLE, "all+NONE").exec())
}
