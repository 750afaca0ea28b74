//! Which plugins this build has: one line each. A table in the configuration switches a plugin on.

mod server;

pub use server::{ServerPluginError, ServerPlugins};
