//! Which plugins this build has: one line each. A table in the configuration switches a plugin on.

mod agent;
mod server;

pub use agent::{AgentPluginError, AgentPlugins};
pub use node_tpm::{AgentConfig as TpmConfig, OpenTpm};
pub use server::{ServerPluginError, ServerPlugins};
