//! What is known of the TPM itself: what it said before, and what is published of its kind.

use attest::{Continuity, Reject, Standing, VerifiedQuote, ek::Action};
use plugin_api::Host;
use svid::Timestamp;
use tracing::warn;

use super::{Proven, Rules, keys};
use crate::wire::OfferedEk;

/// How much older, in milliseconds, a quote without a nonce may be than the last one: connections overtake each other.
const OVERTAKEN: u64 = 120_000;

impl Rules {
    /// Compares with what the host's TPM said when evidence was last accepted (39, 40, 42, 43). Whichever attestation
    /// key it said that under: a row is one TPM, with one clock, and whoever has the host makes other keys as he likes.
    pub(super) fn check_continuity(&self, quote: &VerifiedQuote, host: &Host) -> Result<(), Reject> {
        let Some(before) = &host.appraised else {
            return Ok(());
        };
        match Standing::from(quote).follow(&before.standing, OVERTAKEN)? {
            Continuity::Resumed if !self.accept_suspend => Err(Reject::TpmResumed),
            _ => Ok(()),
        }
    }

    /// Looks at the certificate of a TPM again: it may be revoked by now, and advisories may be about its model (11, 16).
    pub(super) fn check_certificate(
        &self,
        quote: &VerifiedQuote,
        proven: &Proven,
        offered: &[OfferedEk],
        now: Timestamp,
    ) -> Result<(), Reject> {
        let trust = &self.trust;
        if trust.advisories.is_none() && !trust.has_crls {
            return Ok(());
        }
        let attributes = match keys::attributes(offered, proven, &trust.roots, now) {
            Err(reject) if reject == Reject::EkRevoked || trust.advisories.is_some() => return Err(reject),
            attributes => attributes.ok().flatten(),
        };
        let about = trust.advisories.iter().zip(&attributes);
        for advisory in about.flat_map(|(list, tpm)| list.about(tpm, quote.firmware_version)) {
            warn!(host_id = %proven.host.id, %advisory, "Advisory is about a host's TPM");
            if advisory.action == Action::Deny {
                return Err(Reject::EkAdvisory);
            }
        }
        Ok(())
    }
}
