//! Captured quotes in the forms that tools write them in, each thing that is refused, and the report on one.

use attest::{
    CapturedKey, CapturedQuote, HashAlg, PcrSelection, PcrValues, Reject,
    event_log::EventLog,
    report::{Beside, Captured, Finding, QuoteReport, Verdict},
};
use aws_lc_rs::signature::EcdsaKeyPair;

use crate::{
    evidence::{BINDING, statement, values},
    fixtures::event_log,
    tpm::{Area, ECDSA, SHA1, SHA256, quoted, sign, signing_key, sized, words},
};

/// A quote by a key in software.
struct Made {
    key: EcdsaKeyPair,
    ak: Vec<u8>,
    statement: Vec<u8>,
    signature: Vec<u8>,
}

impl Made {
    fn good() -> Self {
        let key = signing_key();
        let statement = statement(&key, &values()).marshal();
        Self {
            ak: Area::attestation(&key).marshal(),
            signature: sign(&key, &statement),
            statement,
            key,
        }
    }

    fn verify(&self) -> Result<(), Reject> {
        let key = CapturedKey::parse(&self.ak)?;
        let quote = CapturedQuote::parse(&self.statement, &self.signature)?;
        quote.verify(&key, &BINDING.extra_data()).map(drop)
    }

    /// The halves of the signature.
    fn halves(&self) -> (&[u8], &[u8]) {
        (&self.signature[6..38], &self.signature[40..72])
    }
}

#[test]
fn reads_the_forms_that_tools_write() {
    let good = Made::good();
    assert_eq!(good.verify(), Ok(()));
    let (r, s) = good.halves();
    let plain = der(&[&integer(r), &integer(s)]);
    let point = aws_lc_rs::signature::KeyPair::public_key(&good.key)
        .as_ref()
        .to_vec();
    let spki_head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let spki = [spki_head, point].concat();
    for ak in [good.ak.clone(), sized(&good.ak), spki] {
        for statement in [good.statement.clone(), sized(&good.statement)] {
            for signature in [good.signature.clone(), plain.clone()] {
                let made = Made {
                    key: signing_key(),
                    ak: ak.clone(),
                    statement: statement.clone(),
                    signature,
                };
                assert_eq!(made.verify(), Ok(()));
            }
        }
    }
}

fn der(integers: &[&[u8]]) -> Vec<u8> {
    let body = integers.concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

fn integer(half: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
    let len = u8::try_from(sign.len() + digits.len()).unwrap();
    [&[2, len], sign, &digits].concat()
}

#[test]
fn refuses_what_is_not_signed() {
    let refuses = |change: &dyn Fn(&mut Made), expected: Reject| {
        let mut made = Made::good();
        change(&mut made);
        assert_eq!(made.verify(), Err(expected));
    };
    refuses(&|made| made.signature[20] ^= 1, Reject::SignatureInvalid);
    refuses(
        &|made| made.ak = Area::attestation(&signing_key()).marshal(),
        Reject::SignatureInvalid,
    );
    refuses(&|made| made.statement[0] = 0, Reject::AttestMagic);
    refuses(
        &|made| made.signature = der(&[&integer(&[1; 32]), &integer(&[1; 32])]),
        Reject::SignatureInvalid,
    );
    // The clock: signed along.
    refuses(
        &|made| {
            let at = made.statement.len() - 34 - 10 - 8 - 17;
            made.statement[at + 7] ^= 1;
        },
        Reject::SignatureInvalid,
    );
    refuses(
        &|made| made.signature = [words(&[ECDSA, 0x000c]), made.signature[4..].to_vec()].concat(),
        Reject::SignatureScheme,
    );
    refuses(
        &|made| made.signature = [words(&[0x0014, SHA256]), sized(&[1; 256])].concat(),
        Reject::SignatureScheme,
    );
    // A key that signs whatever it is handed: restricted is bit 16 of the attributes, big-endian behind two words.
    refuses(&|made| made.ak[5] &= !1, Reject::AkAttributes);
    let made = Made::good();
    let key = CapturedKey::parse(&made.ak).unwrap();
    let quote = CapturedQuote::parse(&made.statement, &made.signature).unwrap();
    for nonce in [&[][..], &[0; 32], &BINDING.extra_data()[..31]] {
        assert_eq!(
            quote.clone().verify(&key, nonce).map(drop),
            Err(Reject::ExtraData)
        );
    }
}

#[test]
fn refuses_quotes_of_nothing_that_counts() {
    let refuses = |selection: &[(u16, u32)], values: &PcrValues, expected: &[&str]| {
        let key = signing_key();
        let banks = selection.iter().map(|(alg, mask)| {
            let pcrs = (0..24).filter(|pcr| mask & 1 << pcr != 0).collect();
            (HashAlg::from_tpm(*alg).unwrap(), pcrs)
        });
        let over = PcrSelection::new(banks.collect()).unwrap_or_default();
        let mut said = statement(&key, values);
        said.attested = quoted(selection, values.digest(&over, HashAlg::Sha256).as_bytes());
        let marshaled = said.marshal();
        let captured = Captured {
            ak: &Area::attestation(&key).marshal(),
            quote: &marshaled,
            signature: &sign(&key, &marshaled),
            nonce: &BINDING.extra_data(),
        };
        for pcrs in [None, Some(values)] {
            let report = QuoteReport::of(
                &captured,
                &Beside {
                    pcrs,
                    ..Beside::default()
                },
            );
            let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
            // Values alone say what firmware left.
            let is_value = pcrs.is_none() && expected == ["pcr_uninitialized"];
            assert_eq!(codes, if is_value { &[] } else { expected }, "{selection:x?}");
        }
    };
    refuses(&[(SHA256, 0xff)], &values(), &[]);
    refuses(&[(SHA1, 0xff)], &values(), &["pcr_bank"]);
    refuses(&[], &values(), &["pcr_selection"]);
    refuses(&[(SHA256, 0)], &values(), &["pcr_selection"]);
    refuses(&[(SHA256, 0xff)], &PcrValues::default(), &["pcr_uninitialized"]);
}

#[test]
fn a_report_names_what_the_log_does_not_explain() {
    let made = Made::good();
    let nonce = BINDING.extra_data();
    let captured = Captured {
        ak: &made.ak,
        quote: &made.statement,
        signature: &made.signature,
        nonce: &nonce,
    };
    let refused = |pcrs: Option<&PcrValues>, log: &str| {
        let report = QuoteReport::of(
            &captured,
            &Beside {
                pcrs,
                event_log: Some(&event_log(log)),
                ima_log: None,
            },
        );
        let is_refused = |finding: &&Finding| finding.verdict == Verdict::Refused;
        report
            .findings
            .iter()
            .filter(is_refused)
            .map(|finding| finding.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        refused(Some(&values()), "guard-good-1.eventlog.bin"),
        [] as [&str; 0]
    );
    assert_eq!(refused(None, "guard-good-1.eventlog.bin"), [] as [&str; 0]);
    assert_eq!(refused(None, "vm-sb-56c.bin"), ["log_unexplained"]);
    assert!(refused(Some(&values()), "vm-sb-56c.bin").contains(&"log_mismatch"));
    let parsed = EventLog::parse(&event_log("guard-good-1.eventlog.bin")).unwrap();
    assert!(parsed.banks().any(|alg| alg == HashAlg::Sha256));
}
