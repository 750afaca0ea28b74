//! Quotes of other systems: what they prove of the keys that came with them, and each thing that is refused.

use attest::{
    CapturedKey, CapturedQuote, HashAlg, PcrValues, Reject,
    event_log::EventLog,
    report::{Captured, Finding, QuoteReport, Verdict},
    wire::Attest,
};
use aws_lc_rs::signature::EcdsaKeyPair;

use crate::{
    evidence::{BINDING, statement, values},
    fixtures::{self, event_log, quote_file},
    tpm::{Area, ECDSA, SHA256, sign, signing_key, sized, words},
};

/// Of each quote: whether it verifies with the nonce that it holds itself, or why not.
const QUOTES: &str = "\
goattest-windows_gcp_shielded_vm | signature_scheme
goeventlog-linux_tpm12 | malformed
guard-IMN-DELL | no key
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs | no key
guard-dell-notebook-5eventlogs-WBCL | no key
guard-dl160-fwupd-report | no key
guard-failed-1 | no key
guard-good-1 | no key
guard-hahuri-no-eventlog | no key
guard-issue926-x1carbon-before | no key
rustkeylime-test-quote | no key
veraison-parsec-tpm-evidence | ak_attributes
vm-sb-systemd | ECC P-256 over sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14";

#[test]
fn verifies_each_quote_as_expected() {
    let rows: Vec<_> = QUOTES.lines().map(|row| row.split_once(" | ").unwrap()).collect();
    let named: Vec<_> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(fixtures::quotes(), named, "the table names each quote once");
    for (name, expected) in rows {
        assert_eq!(describe(name), expected, "{name}");
    }
}

fn describe(name: &str) -> String {
    let part = |part: &str| quote_file(&format!("{name}.{part}"));
    let (Some(attest), Some(signature)) = (part("attest"), part("signature")) else {
        panic!("{name} has no quote");
    };
    let quote = match CapturedQuote::parse(&attest, &signature) {
        Ok(quote) => quote,
        Err(reject) => return reject.code().into(),
    };
    let Some(ak) = part("ak") else {
        return "no key".into();
    };
    let nonce = Attest::parse(&attest).unwrap().extra_data;
    let key = match CapturedKey::parse(&ak) {
        Ok(key) => key,
        Err(reject) => return reject.code().into(),
    };
    match quote.verify(&key, &nonce) {
        Ok(signed) => format!("{} over {}", key.kind(), signed.selection()),
        Err(reject) => reject.code().into(),
    }
}

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
        let report = QuoteReport::of(&captured, pcrs, Some(&event_log(log)));
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
