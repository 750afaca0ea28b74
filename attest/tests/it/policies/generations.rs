//! Generations: which one counts, what a node is called for it, and who signed it.

use attest::policy::Policy;
use attest::policy::{
    Generation, Generations, GenerationsError, PolicyKey, SignatureError, Stage, Verdict, appraise, selectors,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};

use super::{boot, learned, policy};

fn generation(boot_name: &str, stage: Stage) -> Generation {
    Generation::new(learned(&boot(boot_name)).policy, stage)
}

/// Verdict on `host`, and whether it is called by the policy's name.
fn check(all: &[(&str, Stage)], host: &str, expected: &str) {
    let all = all.iter().map(|(name, stage)| generation(name, *stage)).collect();
    let generations = Generations::new(all).unwrap();
    let evidence = boot(host);
    let appraisal = appraise(&generations, &evidence);
    let verdict = match appraisal.verdict {
        Verdict::Met(id) => {
            let version = generations.iter().position(|generation| generation.id() == id);
            format!("met by {}", version.unwrap())
        }
        Verdict::Observed => "observed".into(),
        Verdict::Refused => "refused".into(),
    };
    assert_eq!(verdict, expected, "{host}");
    let is_called = selectors(&[appraisal], &evidence).contains(&"policy:golden".to_owned());
    assert_eq!(
        is_called,
        verdict.starts_with("met"),
        "only if one that is enforced is met"
    );
}

#[test]
fn only_what_is_enforced_counts() {
    use Stage::{Enforced, Staged};
    check(&[("vm-sb-56c", Staged)], "vm-sb-56c", "observed");
    check(&[("vm-sb-56c", Staged)], "vm-nosb-56c", "observed");
    check(&[("vm-sb-56c", Enforced)], "vm-sb-56c", "met by 0");
    check(&[("vm-sb-56c", Enforced)], "vm-nosb-56c", "refused");
    // During a roll-out the old one and the new one will do.
    let both = [
        ("vm-nosb-53c", Enforced),
        ("vm-nosb-56c", Enforced),
        ("vm-sb-56c", Staged),
    ];
    check(&both, "vm-nosb-53c", "met by 0");
    check(&both, "vm-nosb-56c", "met by 1");
    check(&both, "vm-sb-56c", "refused");
    // A generation that is only watched does not let anybody pass.
    check(
        &[("vm-sb-56c", Staged), ("vm-nosb-56c", Enforced)],
        "vm-sb-56c",
        "refused",
    );
}

#[test]
fn what_is_watched_is_noted() {
    let all = vec![
        generation("vm-nosb-56c", Stage::Staged),
        generation("vm-sb-56c", Stage::Enforced),
    ];
    let appraisal = appraise(&Generations::new(all).unwrap(), &boot("vm-sb-56c"));
    let noted: Vec<_> = appraisal
        .judgements
        .iter()
        .map(|judgement| (judgement.stage, judgement.differences.is_empty()))
        .collect();
    assert_eq!(noted, [(Stage::Enforced, true), (Stage::Staged, false)]);
}

#[test]
fn refuses_generations_that_do_not_belong_together() {
    let numbered = |index: u32, stage| {
        let tpm = policy(&format!("description = \"{index}\"\n[tpm]\nat_least = \"0\""));
        Generation::new(tpm, stage)
    };
    let check = |all: Vec<Generation>, expected| {
        assert_eq!(Generations::new(all).err(), Some(expected));
    };
    check(vec![], GenerationsError::Empty);
    check(
        vec![numbered(1, Stage::Staged), generation("vm-sb-56c", Stage::Staged)],
        GenerationsError::Name,
    );
    check(
        vec![numbered(1, Stage::Staged), numbered(1, Stage::Enforced)],
        GenerationsError::Twice,
    );
    for stage in [Stage::Staged, Stage::Enforced] {
        check(
            (0..3).map(|index| numbered(index, stage)).collect(),
            GenerationsError::TooMany,
        );
    }
}

#[test]
fn calls_a_node_by_what_is_proven() {
    let found = |name: &str| selectors(&[], &boot(name));
    let secure = found("vm-sb-56c");
    assert!(secure.contains(&"secure_boot:on".to_owned()));
    assert!(secure.contains(
        &"pcr:sha256:4:0ead74c7fe3b589a7a033365dd92a33f39d40a71d64207c502b826dde8fe0e90".to_owned()
    ));
    assert!(
        !secure
            .iter()
            .any(|selector| selector.starts_with("pcr:sha256:10:"))
    );
    assert!(found("vm-nosb-56c").contains(&"secure_boot:off".to_owned()));
}

/// A kernel image is named only by an enforced generation that knows it and is met.
#[test]
fn calls_a_node_by_its_kernel_image() {
    let check = |policy: &str, stage, host: &str, expected: Option<&str>| {
        let generations = Generations::new(vec![generation(policy, stage)]).unwrap();
        let evidence = boot(host);
        let found = selectors(&[appraise(&generations, &evidence)], &evidence);
        let found = found.iter().find_map(|selector| selector.strip_prefix("uki:"));
        assert_eq!(found, expected, "{host} under {policy}");
    };
    let image = "581ace47a8394091e036603635d48ddfa79e8db4dac4eba0089c85b937ae6378";
    check("vm-sb-56c", Stage::Enforced, "vm-sb-56c", Some(image));
    check("vm-sb-56c", Stage::Staged, "vm-sb-56c", None);
    check("vm-sb-56c", Stage::Enforced, "vm-smp2-mem512", None);
    check("vm-sdboot-type1", Stage::Enforced, "vm-sdboot-type1", None);
}

#[test]
fn signatures_are_over_the_canonical_form() {
    let policy = learned(&boot("vm-sb-56c")).policy;
    let message = policy.canonical();
    let random = SystemRandom::new();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let keys = [
        spki(
            &[
                0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                0xce, 0x3d, 0x03, 0x01, 0x07,
            ],
            p256.public_key().as_ref(),
        ),
        spki(
            &[0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
            ed25519.public_key().as_ref(),
        ),
    ];
    let signatures = [
        p256.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        ed25519.sign(message.as_bytes()).as_ref().to_vec(),
    ];
    for (at, (key, signature)) in keys.iter().zip(&signatures).enumerate() {
        let key = PolicyKey::parse(key).unwrap();
        let signed = key.verify(policy.clone(), signature).unwrap();
        assert_eq!(*signed.policy(), policy);
        let refused = |policy: &Policy, signature: &[u8]| key.verify(policy.clone(), signature).err();
        let other = Policy {
            version: 9,
            ..policy.clone()
        };
        assert_eq!(refused(&other, signature), Some(SignatureError::Signature));
        assert_eq!(
            refused(&policy, &signatures[1 - at]),
            Some(SignatureError::Signature)
        );
        assert_eq!(refused(&policy, &[]), Some(SignatureError::Signature));
    }
    for wrong in [&[][..], &keys[0][1..], &[&keys[1][..], &[0]].concat()] {
        assert_eq!(PolicyKey::parse(wrong).err(), Some(SignatureError::Key));
    }
}

/// SubjectPublicKeyInfo: the algorithm behind its length, and the bits.
fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let algorithm = [&[0x30][..], algorithm].concat();
    let bits = element(0x03, &[&[0], bits].concat());
    element(0x30, &[algorithm, bits].concat())
}
