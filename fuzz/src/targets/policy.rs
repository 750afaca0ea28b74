//! Reference values as an operator keeps them, and the kernel images that they are predicted from.

use attest::{
    HashAlg,
    event_log::EventLog,
    policy::{
        Evidence, Generation, Generations, Policy, Stage, Uki, Verdict, appraise, diff, judge, learn,
        selectors,
    },
    uki::{PeImage, Prediction, UkiImage},
};

/// A boot that any policy is tried on.
const LOG: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attest/testdata/eventlogs/vm-sb-56c.bin"
));

/// [`Policy::parse`], and all that is done with a policy.
pub fn text(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(bytes) else { return };
    let canonical = policy.canonical();
    for text in [&canonical, &policy.explained()] {
        let again = Policy::parse(text.as_bytes()).unwrap_or_else(|error| panic!("written, but {error}"));
        assert_eq!(again, policy, "a text says what the policy says");
    }
    assert!(diff(&policy, &policy).is_empty());
    let log = log();
    let Some(evidence) = evidence(&log) else { return };
    let is_met = judge(&policy, &evidence).is_empty();
    let Ok(generations) = Generations::new(vec![Generation::new(policy.clone(), Stage::Enforced)]) else {
        return;
    };
    let appraisal = appraise(&generations, &evidence);
    assert_eq!(matches!(appraisal.verdict, Verdict::Met(_)), is_met);
    let called = format!("policy:{}", policy.name);
    assert_eq!(selectors(&[appraisal], &evidence).contains(&called), is_met);
}

/// What is learned from any log that explains itself: its own evidence meets it.
pub fn learned(bytes: &[u8]) {
    let Ok(log) = EventLog::parse(bytes) else { return };
    let Some(evidence) = evidence(&log) else { return };
    let Ok(name) = "learned".parse() else { return };
    let learned = learn(&name, 1, &evidence, (0..24).collect());
    assert!(
        judge(&learned.policy, &evidence).is_empty(),
        "who taught it meets it"
    );
    if learned.text.len() <= Policy::MAX_LEN {
        let again =
            Policy::parse(learned.text.as_bytes()).unwrap_or_else(|error| panic!("learned, but {error}"));
        assert_eq!(again, learned.policy);
    }
}

/// [`UkiImage::parse`], and what is predicted of an image.
pub fn uki(bytes: &[u8]) {
    let Ok(image) = PeImage::parse(bytes) else { return };
    let _digest = image.authenticode(HashAlg::Sha256);
    let Ok(image) = UkiImage::parse(bytes) else { return };
    let content: usize = image.sections().map(|(_, content)| content.len()).sum();
    assert!(content <= bytes.len(), "sections do not overlap");
    let prediction = Prediction::of(&image, HashAlg::Sha256);
    assert_eq!(prediction.sections.len(), image.sections().count());
    let uki = Uki::predicted("fuzz", &prediction).unwrap_or_else(|| panic!("SHA-256 is a bank to decide on"));
    let log = log();
    let Some(evidence) = evidence(&log) else { return };
    let Ok(name) = "predicted".parse() else { return };
    let policy = learn(&name, 1, &evidence, (0..24).collect())
        .policy
        .with_kernel_image(vec![uki]);
    assert!(
        judge(&policy, &evidence).is_empty(),
        "another image keeps nobody out"
    );
    let again =
        Policy::parse(policy.canonical().as_bytes()).unwrap_or_else(|error| panic!("written, but {error}"));
    assert_eq!(again, policy);
}

fn log() -> EventLog {
    EventLog::parse(LOG).unwrap_or_else(|error| panic!("the captured log: {error}"))
}

/// The evidence of a TPM whose PCRs are what the log says.
fn evidence(log: &EventLog) -> Option<Evidence<'static>> {
    let alg = log.banks().find(|alg| *alg != HashAlg::Sha1)?;
    Evidence::recorded(&log.replay(alg).ok()?, log).ok()
}
