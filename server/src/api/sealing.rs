//! What an agent is told of what was accepted of its host: to which PCRs it may seal its state.

use plugin_api::{Host, Records, Sealing};
use proto::plastron::{agent::v1 as wire, attest::v1 as attested};

use crate::registry::Snapshot;

/// What the state of `host` may be sealed to, if anything of it was accepted that holds still.
pub(super) fn sealing(host: &Host, snapshot: &Snapshot) -> Option<wire::Sealing> {
    let appraised = host.appraised.as_ref()?;
    let sealing = Sealing::of(appraised, &snapshot.policies_of(host))?;
    let pcrs = sealing.pcrs().banks().map(|(alg, set)| attested::PcrSelection {
        hash_alg: alg.to_tpm().into(),
        pcrs: set.mask(),
    });
    Some(wire::Sealing {
        pcrs: pcrs.collect(),
        pcr_digest: sealing.pcr_digest().to_vec(),
    })
}
