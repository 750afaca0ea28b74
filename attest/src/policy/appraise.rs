//! Whether evidence meets a policy.

use super::{
    Differences, Evidence, Generation, GenerationId, Generations, Policy, PolicyName, Reference, Stage, Uki,
    command_line::Texts, evidence::Measured, firmware_rule,
};
use crate::ima::Entry;

/// What became of a host under one policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appraisal {
    /// The policy.
    pub name: PolicyName,
    /// What follows.
    pub verdict: Verdict,
    /// What each generation says, those that are enforced first.
    pub judgements: Vec<Judgement>,
}

/// What follows of an appraisal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// An enforced generation is met: this one.
    Met(GenerationId),
    /// No generation is enforced: what differs is noted, and nothing follows.
    Observed,
    /// No enforced generation is met.
    Refused,
}

/// What one generation says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// Which generation.
    pub id: GenerationId,
    /// Its version, for people.
    pub version: u32,
    /// Whether it counts.
    pub stage: Stage,
    /// What differs.
    pub differences: Differences,
    /// The unified kernel image that booted, if the generation knows it.
    pub kernel_image: Option<Reference>,
}

/// Compares `evidence` with all generations of a policy: one that is enforced has to be met.
#[must_use]
pub fn appraise(generations: &Generations, evidence: &Evidence<'_>) -> Appraisal {
    let judgements: Vec<_> = generations
        .iter()
        .map(|generation| Judgement::of(generation, evidence))
        .collect();
    let mut enforced = judgements
        .iter()
        .filter(|judgement| judgement.stage == Stage::Enforced)
        .peekable();
    let has_enforced = enforced.peek().is_some();
    let met = enforced.find(|judgement| judgement.differences.is_empty());
    let verdict = match (met, has_enforced) {
        (Some(judgement), _) => Verdict::Met(judgement.id),
        (None, true) => Verdict::Refused,
        (None, false) => Verdict::Observed,
    };
    Appraisal {
        name: generations.name().clone(),
        verdict,
        judgements,
    }
}

/// Adds what differs between `entries` of the kernel's list and `policy`; `before` of the boot came before them. Whoever
/// met it still does if nothing is added, and nothing else has changed.
pub fn judge_entries<'a>(
    policy: &Policy,
    entries: impl Iterator<Item = Entry<'a>>,
    before: u64,
    differences: &mut Differences,
) {
    if let Some(rule) = &policy.ima {
        rule.check_entries(entries, before, differences);
    }
}

impl Appraisal {
    /// What the enforced generation says that is met.
    #[must_use]
    pub fn met(&self) -> Option<&Judgement> {
        let Verdict::Met(id) = self.verdict else {
            return None;
        };
        self.judgements.iter().find(|judgement| judgement.id == id)
    }
}

impl Judgement {
    fn of(generation: &Generation, evidence: &Evidence<'_>) -> Self {
        Self {
            id: generation.id(),
            version: generation.policy.version,
            stage: generation.stage,
            differences: judge(&generation.policy, evidence),
            kernel_image: generation.policy.booted_uki(evidence).map(|uki| uki.image),
        }
    }
}

impl Policy {
    fn booted_uki(&self, evidence: &Evidence<'_>) -> Option<&Uki> {
        self.boot.as_ref()?.booted_uki(evidence)
    }

    /// Whether what was measured is for other rules: that about initial file systems looks at all of PCR 9, and an image
    /// that is known has its own.
    fn is_file(&self, event: &Measured<'_>) -> bool {
        let ukis = self.boot.iter().flat_map(|boot| &boot.uki);
        let mut embedded = ukis.filter_map(|uki| uki.section(".initrd"));
        self.initrd.is_some() || embedded.any(|digest| event.is(digest))
    }
}

/// What differs between `evidence` and `policy`, in the order of the rules; nothing, if it is met.
#[must_use]
pub fn judge(policy: &Policy, evidence: &Evidence<'_>) -> Differences {
    let texts = Texts::of(policy, evidence);
    let mut differences = Differences::default();
    if let Some(releases) = &policy.firmware {
        firmware_rule::check(releases, evidence, &mut differences);
    }
    if let Some(rule) = &policy.tpm {
        rule.check(evidence, &mut differences);
    }
    if let Some(rule) = &policy.secure_boot {
        rule.check(evidence, policy.sbat.as_ref(), &mut differences);
    }
    if let Some(rule) = &policy.sbat {
        rule.check(evidence, &mut differences);
    }
    if let Some(rule) = &policy.boot {
        rule.check(evidence, &texts, &mut differences);
    }
    if let Some(rule) = &policy.command_line {
        let is_file = |event: &Measured<'_>| policy.is_file(event);
        rule.check(evidence, &texts, is_file, &mut differences);
    }
    if let Some(rule) = &policy.initrd {
        rule.check(evidence, &texts, &mut differences);
    }
    for rule in &policy.pcrs {
        rule.check(evidence, &mut differences);
    }
    if let Some(rule) = &policy.ima {
        rule.check(evidence, &mut differences);
    }
    differences
}
