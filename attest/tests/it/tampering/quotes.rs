//! Quotes: the statement and its signature, by keys of our template and by those of others.

use attest::{
    CapturedKey, CapturedQuote, PcrSelection, Reject, SignedQuote, VerifiedPcrs, event_log::EventLog,
    wire::ClockInfo,
};

use super::every_byte_counts;
use crate::{
    evidence::Evidence,
    fixtures::{CapturedEvidence, quote},
};

/// All that a quote says, and what its log makes of it.
type Facts = (ClockInfo, u64, VerifiedPcrs);

fn appraise(evidence: &Evidence, log: &EventLog) -> Result<Facts, Reject> {
    let selected = evidence.selected()?;
    let said = selected.quote();
    Ok((
        said.clock,
        said.firmware_version,
        selected.explain(log, evidence.claimed.as_ref())?,
    ))
}

#[test]
fn every_byte_of_a_quote_by_our_key_counts() {
    let good = Evidence::good();
    let log = EventLog::parse(&good.log).unwrap();
    every_byte_counts(&good.statement, |statement| {
        let statement = statement.to_vec();
        appraise(
            &Evidence {
                statement,
                ..good.clone()
            },
            &log,
        )
    });
    every_byte_counts(&good.signature, |signature| {
        let signature = signature.to_vec();
        appraise(
            &Evidence {
                signature,
                ..good.clone()
            },
            &log,
        )
    });
    every_byte_counts(&good.ak, |ak| {
        let ak = ak.to_vec();
        appraise(&Evidence { ak, ..good.clone() }, &log)
    });
}

type Part = fn(&mut CapturedEvidence) -> &mut Vec<u8>;

const PARTS: [Part; 4] = [
    |evidence| evidence.ak.as_mut().unwrap(),
    |evidence| &mut evidence.nonce,
    |evidence| &mut evidence.quote,
    |evidence| &mut evidence.signature,
];

/// By the key that the caller knows by its Name: what of a public area does not take part in signing, no quote covers.
fn signed(evidence: &CapturedEvidence, name: &attest::Name) -> Result<(PcrSelection, ClockInfo), Reject> {
    let key = CapturedKey::parse(evidence.ak.as_ref().unwrap())?;
    if key.name().as_ref() != Some(name) {
        return Err(Reject::AkOfOtherHost);
    }
    let quote = CapturedQuote::parse(&evidence.quote, &evidence.signature)?;
    let signed: SignedQuote = quote.verify(&key, &evidence.nonce)?;
    Ok((signed.selection().clone(), signed.clock))
}

/// RSASSA and RSAPSS, ECDSA over P-256 and P-384, banks of SHA-256 and SHA-384.
#[test]
fn every_byte_of_quotes_by_keys_of_other_templates_counts() {
    for file in [
        "swtpm-ecdsa-p256.txt",
        "swtpm-ecdsa-p384.txt",
        "swtpm-rsapss-sha256.txt",
        "swtpm-rsassa-sha256.txt",
        "swtpm-rsassa-sha384.txt",
    ] {
        let key = CapturedKey::parse(quote(file).ak.as_ref().unwrap()).unwrap();
        let name = key.name().unwrap();
        for part in PARTS {
            let good = part(&mut quote(file)).clone();
            every_byte_counts(&good, |bytes| {
                let mut changed = quote(file);
                *part(&mut changed) = bytes.into();
                signed(&changed, &name)
            });
        }
    }
}
