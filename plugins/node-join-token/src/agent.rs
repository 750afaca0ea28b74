//! The agent's side.

use plugin_api::{Binding, NodeProver, ProverError};

use crate::NAME;

/// Shows a token.
pub struct JoinTokenProver {
    token: String,
}

impl JoinTokenProver {
    /// Shows `token`.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self { token }
    }
}

impl NodeProver for JoinTokenProver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<(), ProverError> {
        Ok(())
    }

    fn begin(&mut self, _binding: &Binding) -> Result<Vec<u8>, ProverError> {
        Ok(self.token.clone().into_bytes())
    }

    fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, ProverError> {
        Err(ProverError::Challenge(
            "a join token answers no challenges".into(),
        ))
    }
}
