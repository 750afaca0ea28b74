//! Quotes: in the steady state, one TPM command each.

use attest::{PcrSelection, wire::Attest};
use plugin_api::{RawQuote, TpmError};
use svid::TrustDomain;
use tss_esapi::{
    Error,
    structures::{Data, SignatureScheme},
    traits::Marshall,
};

use crate::{
    ak::Ak,
    device::Open,
    error::{Misuse, failed, is_gone, misuse},
    keys::authorized,
    pcr,
};

const QUOTE: &str = "TPM2_Quote";

impl Open {
    /// Signs PCRs: one command, unless the key is gone since it was last used.
    pub(crate) fn quote(
        &mut self,
        trust_domain: &TrustDomain,
        extra_data: &[u8; 32],
        selection: &PcrSelection,
    ) -> Result<RawQuote, TpmError> {
        let known = self.known_ak(trust_domain)?;
        if let Some(quote) = self.quote_by(&known, extra_data, selection)? {
            return Ok(quote);
        }
        let made = self.make_ak(trust_domain)?;
        if made.name != known.name {
            return Err(misuse(QUOTE, Misuse::AnotherTpm));
        }
        self.quote_by(&made, extra_data, selection)?
            .ok_or_else(|| misuse(QUOTE, Misuse::AnotherTpm))
    }

    /// `None` if the handle holds no key any more, or another one.
    fn quote_by(
        &mut self,
        ak: &Ak,
        extra_data: &[u8; 32],
        selection: &PcrSelection,
    ) -> Result<Option<RawQuote>, TpmError> {
        let failed = failed(QUOTE);
        let extra_data = Data::try_from(extra_data.as_slice()).map_err(&failed)?;
        let selection = pcr::to_tpm(selection).map_err(&failed)?;
        let quoted = self.using_ak(ak, |open, key| {
            Ok(authorized(&mut open.context, |context| {
                context.quote(key, extra_data, SignatureScheme::Null, selection)
            }))
        })?;
        let quote = match quoted {
            Ok((attest, signature)) => marshall(&attest, &signature).map_err(&failed)?,
            Err(error) if is_gone(error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        Ok(is_signed_by(ak, &quote).then_some(quote))
    }
}

/// Whether it is this key that signed, and not another that took its place at the handle.
fn is_signed_by(ak: &Ak, quote: &RawQuote) -> bool {
    let signer = Attest::parse(&quote.attest).map(|attest| attest.qualified_signer);
    let expected = ak.name.qualified_under_endorsement();
    signer.is_ok_and(|signer| expected.is_some_and(|expected| expected.as_bytes() == &*signer))
}

fn marshall(attest: &impl Marshall, signature: &impl Marshall) -> Result<RawQuote, Error> {
    Ok(RawQuote {
        attest: attest.marshall()?,
        signature: signature.marshall()?,
    })
}
