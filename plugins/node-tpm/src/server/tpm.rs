//! What is known of the TPM itself: what it said before, and what is published of its kind.

use attest::{Continuity, Reject, Standing, VerifiedQuote, ek::Action};
use svid::Timestamp;
use tracing::warn;

use super::{Proven, Rules, keys};
use crate::wire::OfferedEk;

impl Rules {
    /// Checks a TPM that a verified quote is of (11, 16, 39, 40, 42, 43).
    pub(super) fn check_tpm(
        &self,
        quote: &VerifiedQuote,
        proven: &Proven,
        offered: &[OfferedEk],
        now: Timestamp,
    ) -> Result<(), Reject> {
        self.check_continuity(quote, proven)?;
        self.check_certificate(quote, proven, offered, now)
    }

    /// Compares with what the TPM said under the same attestation key, when evidence was last accepted.
    pub(super) fn check_continuity(&self, quote: &VerifiedQuote, proven: &Proven) -> Result<(), Reject> {
        let host = &proven.host;
        let is_same_key = host.attestation_key.as_ref() == Some(proven.ak.key().public());
        let Some(before) = host.appraised.as_ref().filter(|_| is_same_key) else {
            return Ok(());
        };
        let before = Standing {
            clock: before.clock,
            firmware_version: before.firmware_version,
        };
        match Standing::from(quote).follow(&before)? {
            Continuity::Resumed if !self.accept_suspend => Err(Reject::TpmResumed),
            Continuity::Booted | Continuity::Resumed | Continuity::Running => Ok(()),
        }
    }

    /// Looks at the certificate of a TPM again: it may be revoked by now, and advisories may be about its model (11, 16).
    fn check_certificate(
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
