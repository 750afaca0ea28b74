//! A first message as an agent sends it, by a TPM in software.

use node_tpm::{AgentConfig, TpmProver};
use plugin_api::{Binding, NodeProver, TpmDevice, TpmError};
use prost::Message;
use proto::plastron::attest::v1::{Certification, Evidence};
use svid::TrustDomain;
use swtpm_tests::SoftwareTpm;

use super::seed;

pub(crate) fn write() {
    let open = Box::new(|| -> Result<Box<dyn TpmDevice>, TpmError> { Ok(Box::new(SoftwareTpm::default())) });
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let mut prover = TpmProver::new(AgentConfig::default(), trust_domain, open);
    prover.prepare().unwrap();
    let binding = Binding {
        exporter: [1; 32],
        csr: Vec::new(),
    };
    let evidence = prover.begin(&binding).unwrap();
    seed("tpm_attestor", "full", &evidence);
    seed("tpm_attestor", "certified", with_certification(&evidence));
}

/// The same, with the word of an attestation key for a key.
fn with_certification(evidence: &[u8]) -> Vec<u8> {
    let mut tpm = SoftwareTpm::default();
    let key = tpm.create_key().unwrap();
    let certified = tpm.certify(&key, &[7; 32]).unwrap();
    let mut evidence = Evidence::decode(evidence).unwrap();
    evidence.certification = Some(Box::new(Certification {
        public: key.public.into(),
        attest: certified.attest.into(),
        signature: certified.signature.into(),
    }));
    evidence.encode_to_vec()
}
