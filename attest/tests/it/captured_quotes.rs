//! Quotes by keys of other templates: what is refused of them when anything is changed. What each is, `testdata/TABLE.txt` says.

use attest::{CapturedKey, CapturedQuote, HashAlg, PcrSelection, PcrValues, Reject, SignedQuote};
use proptest::prelude::*;

use crate::fixtures::{CapturedEvidence, pcrs, quote, quotes};

/// Five kinds: by an RSA key in either scheme, by an ECC key on either curve, and of the SHA-384 bank.
const GOOD: [&str; 5] = [
    "swtpm-ecdsa-p256.txt",
    "swtpm-ecdsa-p384.txt",
    "swtpm-rsapss-sha256.txt",
    "swtpm-rsassa-sha256.txt",
    "swtpm-rsassa-sha384.txt",
];

/// What the quotes of swtpm are over.
fn selection(name: &str) -> PcrSelection {
    let text = match name {
        "swtpm-ecdsa-p384.txt" => "sha256:0-7+sha384:0-7",
        "swtpm-rsassa-sha384.txt" => "sha384:0-7",
        "swtpm-sha1-bank.txt" => "sha1:0-7",
        "goattest-windows_gcp_shielded_vm.txt" => "sha1:0-23",
        "vm-sb-systemd.txt" => "sha256:0-14",
        _ => "sha256:0-7",
    };
    banks(text)
}

/// As `sha256:0-7`; SHA-1 is none that operators can ask for.
fn banks(text: &str) -> PcrSelection {
    let bank = |bank: &str| {
        let (alg, range) = bank.split_once(":0-").unwrap();
        let alg = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384]
            .into_iter()
            .find(|known| known.to_string() == alg);
        (alg.unwrap(), (0..=range.parse().unwrap()).collect())
    };
    PcrSelection::new(text.split('+').map(bank).collect()).unwrap()
}

fn verify(evidence: &CapturedEvidence, wanted: &PcrSelection) -> Result<SignedQuote, Reject> {
    let key = CapturedKey::parse(evidence.ak.as_ref().unwrap())?;
    let quote = CapturedQuote::parse(&evidence.quote, &evidence.signature)?;
    let signed = quote.verify(&key, &evidence.nonce)?;
    if signed.selection() == wanted {
        Ok(signed)
    } else {
        Err(Reject::PcrSelection)
    }
}

fn values() -> PcrValues {
    pcrs("swtpm").values
}

#[test]
fn is_about_the_nonce_and_the_pcrs_that_were_asked_for() {
    for name in GOOD {
        let mut evidence = quote(name);
        let wanted = banks("sha256:0-8");
        assert_eq!(
            verify(&evidence, &wanted).map(drop),
            Err(Reject::PcrSelection),
            "{name}"
        );
        evidence.nonce.pop();
        let refused = verify(&evidence, &selection(name)).map(drop);
        assert_eq!(refused, Err(Reject::ExtraData), "{name}");
    }
}

/// On each curve and in each RSA scheme, with each hash: by the whole public area, and by the key alone in each form of
/// the signature. The hash is that of the digest over the PCRs.
#[test]
fn keys_of_tools_sign_with_any_hash() {
    let names = quotes("tools-");
    assert_eq!(names.len(), 12);
    for name in names {
        let evidence = quote(&name);
        let [bare, plain_quote, plain] = evidence.plain.as_ref().unwrap();
        let whole = evidence.ak.as_ref().unwrap();
        let signed = [(&evidence.quote, &evidence.signature), (plain_quote, plain)];
        for (key, (statement, signature)) in [whole, bare]
            .into_iter()
            .flat_map(|key| signed.map(|signed| (key, signed)))
        {
            let verify = |statement: &[u8], signature: &[u8]| {
                let key = CapturedKey::parse(key)?;
                CapturedQuote::parse(statement, signature)?.verify(&key, &evidence.nonce)
            };
            let proven = verify(statement, signature).unwrap_or_else(|reject| panic!("{name}: {reject}"));
            let (digest, hash) = proven.pcr_digest();
            assert_eq!(digest.len(), hash.digest_len(), "{name}");
            assert!(name.contains(&hash.to_string()), "{name}: {hash}");
            let mut other = statement.clone();
            *other.last_mut().unwrap() ^= 1;
            let refused = verify(&other, signature).map(drop);
            assert_eq!(refused, Err(Reject::SignatureInvalid), "{name}");
        }
    }
}

/// Of what a quote with two banks signs, neither may be replaced.
#[test]
fn banks_stand_together() {
    let name = "swtpm-ecdsa-p384.txt";
    let proven = verify(&quote(name), &selection(name)).unwrap();
    for alg in [HashAlg::Sha256, HashAlg::Sha384] {
        let mut other = values();
        other.set(alg, 3, std::iter::repeat_n(7, alg.digest_len()).collect());
        assert_eq!(proven.matches(&other), Err(Reject::PcrDigest), "{alg}");
    }
}

type Part = fn(&mut CapturedEvidence) -> &mut Vec<u8>;

const PARTS: [(&str, Part); 4] = [
    ("key", |evidence| evidence.ak.as_mut().unwrap()),
    ("nonce", |evidence| &mut evidence.nonce),
    ("quote", |evidence| &mut evidence.quote),
    ("signature", |evidence| &mut evidence.signature),
];

/// The Name is the caller's to compare: nothing in a quote covers what of the public area does not take part in
/// signing. So a changed key may verify, with another Name.
#[test]
fn every_bit_of_five_kinds_counts() {
    for name in GOOD {
        let wanted = selection(name);
        let own_name = CapturedKey::parse(quote(name).ak.as_ref().unwrap())
            .unwrap()
            .name();
        for (part_name, part) in PARTS {
            for at in 0..part(&mut quote(name)).len() {
                for bit in [0, 3, 7] {
                    let mut changed = quote(name);
                    part(&mut changed)[at] ^= 1_u8 << bit;
                    let at = format!("bit {bit} of byte {at} of the {part_name} of {name}");
                    if verify(&changed, &wanted).is_ok() {
                        assert_eq!(part_name, "key", "{at}");
                        let key = CapturedKey::parse(changed.ak.as_ref().unwrap()).unwrap();
                        assert_ne!(key.name(), own_name, "{at}");
                    }
                }
            }
        }
    }
}

#[test]
fn parts_are_whole_and_do_not_fit_other_evidence() {
    for name in GOOD {
        for (part_name, part) in PARTS {
            for len in 0..part(&mut quote(name)).len() {
                let mut cut = quote(name);
                part(&mut cut).truncate(len);
                assert!(
                    verify(&cut, &selection(name)).is_err(),
                    "{name}: {len} of {part_name}"
                );
            }
            for other in GOOD
                .into_iter()
                .filter(|other| *other != name && part_name != "nonce")
            {
                let mut mixed = quote(name);
                part(&mut mixed).clone_from(part(&mut quote(other)));
                assert!(
                    verify(&mixed, &selection(name)).is_err(),
                    "{part_name} of {other} in {name}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is written over a part: it is refused, or proves what was proven before.
    #[test]
    fn nothing_else_is_accepted(
        which in 0..GOOD.len(), part in 1..PARTS.len(), at in 0_usize..600,
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut changed = quote(GOOD[which]);
        let target = PARTS[part].1(&mut changed);
        let before = target.clone();
        let at = at % target.len();
        target.splice(at..(at + bytes.len()).min(before.len()), bytes);
        let is_same = *target == before;
        prop_assert_eq!(verify(&changed, &selection(GOOD[which])).is_ok(), is_same);
    }
}
