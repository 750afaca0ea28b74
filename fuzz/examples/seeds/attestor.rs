//! A first message as an agent sends it, by a TPM in software.

use node_tpm::{AgentConfig, TpmProver};
use plugin_api::{Binding, NodeProver, TpmDevice, TpmError};
use svid::TrustDomain;
use swtpm_tests::SoftwareTpm;

use crate::seed;

pub(crate) fn write() {
    let open = Box::new(|| -> Result<Box<dyn TpmDevice>, TpmError> { Ok(Box::new(SoftwareTpm::default())) });
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let mut prover = TpmProver::new(AgentConfig::default(), trust_domain, open);
    prover.prepare().unwrap();
    let binding = Binding {
        exporter: [1; 32],
        csr: Vec::new(),
    };
    seed("tpm_attestor", "full", prover.begin(&binding).unwrap());
}
