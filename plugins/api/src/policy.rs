//! The policies that a host is held to, and what becomes of it under them.

use std::{fmt::Write, sync::Arc};

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::EventLog,
    policy::{Appraisal, Evidence, Generations, Judgement, PolicyName, Stage, appraise, selectors},
};
use svid::Timestamp;

use crate::Appraised;

/// The policies that a host is held to. Most hosts have one, many have none.
#[derive(Clone, Debug, Default)]
pub struct HostPolicies {
    all: Vec<Arc<Generations>>,
    generation: u64,
}

/// What became of a host under a policy when it was looked at last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyStanding {
    /// The policy.
    pub name: PolicyName,
    /// Since when it is so.
    pub since: Timestamp,
    /// What each generation said, those that are enforced first.
    pub judgements: Vec<PolicyJudgement>,
}

/// What a generation said of a host, as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyJudgement {
    /// What the generation is known by.
    pub generation: String,
    /// Its version, for people.
    pub version: u32,
    /// Whether it counted.
    pub is_enforced: bool,
    /// What differs, a sentence for each: the first ones.
    pub differences: Vec<String>,
    /// How many more there are.
    pub more: u32,
}

/// What a host showed.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Values of PCRs that were proven.
    pub values: &'a PcrValues,
    /// The log that explains them.
    pub log: &'a EventLog,
    /// The firmware that its TPM said to have.
    pub tpm_firmware: u64,
}

/// What evidence comes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Under each policy.
    pub standings: Vec<PolicyStanding>,
    /// What the node is, as values of selectors, sorted.
    pub selectors: Vec<String>,
}

/// No enforced generation of a policy is met.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("policy {name} is not met: {differences}")]
pub struct PolicyNotMet {
    /// The policy.
    pub name: PolicyName,
    /// What differs from each generation that is enforced.
    pub differences: String,
}

impl PolicyNotMet {
    /// The stable code: for the peer, the audit trail, and scripts.
    pub const CODE: &'static str = "policy_not_met";
}

/// PCRs that a log always explains, or a list of the kernel: none holds what no log tells.
const LOGGED: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14];
/// That of the kernel's measurement list, which is proven apart.
const IMA_PCR: u8 = 10;
/// The selector that says which firmware a TPM has.
const FIRMWARE: &str = "firmware:";
/// Selectors that are true of a TPM for ever: its certificate says so, which comes only in attestations.
const CERTIFIED: [&str; 2] = ["model:", "vendor:"];
/// Most differences of a generation that are kept, and the longest in bytes.
const MAX_KEPT: usize = 8;
const MAX_KEPT_LEN: usize = 1024;

impl HostPolicies {
    /// Most policies of a host.
    pub const MAX: usize = 8;

    /// Those of a host. In which order they come makes no difference.
    #[must_use]
    pub fn new(mut all: Vec<Arc<Generations>>) -> Self {
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all.dedup_by(|one, other| one.name() == other.name());
        let generation = generation(&all);
        Self { all, generation }
    }

    /// Whether nothing is asked of the host beyond a log that explains its PCRs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether anything follows from them.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        let mut generations = self.all.iter().flat_map(|policy| policy.iter());
        generations.any(|generation| generation.stage == Stage::Enforced)
    }

    /// A number for the generations in use and their stages: evidence that was accepted under another one is looked at
    /// anew. 0 stands for none.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The PCRs that a quote has to cover for their sake, without that of the measurement list.
    #[must_use]
    pub fn needed_pcrs(&self) -> PcrSet {
        let generations = self.all.iter().flat_map(|policy| policy.iter());
        generations
            .flat_map(|generation| generation.policy.needed_pcrs().iter().collect::<Vec<_>>())
            .filter(|pcr| *pcr != IMA_PCR)
            .collect()
    }

    /// Whether a quote over `selection` covers what they need, in each of its banks.
    #[must_use]
    pub fn is_covered_by(&self, selection: &PcrSelection) -> bool {
        let needed = self.needed_pcrs();
        selection
            .banks()
            .all(|(_, quoted)| needed.iter().all(|pcr| quoted.contains(pcr)))
    }

    /// Those of [`needed_pcrs`](Self::needed_pcrs) that programs may extend without telling a log.
    #[must_use]
    pub fn unlogged_pcrs(&self) -> PcrSet {
        let needed = self.needed_pcrs();
        needed.iter().filter(|pcr| !LOGGED.contains(pcr)).collect()
    }

    /// Compares a host's evidence with all of them: PCRs that were proven, and the log that explains them. `before` is
    /// what was accepted last: what has not changed is so since then, and what only certificates tell is still so.
    ///
    /// # Errors
    ///
    /// As [`Evidence::recorded`].
    pub fn appraise(
        &self,
        shown: &Shown<'_>,
        before: Option<&Appraised>,
        now: Timestamp,
    ) -> Result<Outcome, Reject> {
        let evidence = Evidence::recorded(shown.values, shown.log)?.with_tpm_firmware(shown.tpm_firmware);
        let appraisals: Vec<_> = self
            .all
            .iter()
            .map(|policy| appraise(policy, &evidence))
            .collect();
        let known = before
            .map(|before| before.policies.as_slice())
            .unwrap_or_default();
        let standing = |appraisal| PolicyStanding::of(appraisal, known, now);
        let selectors = selectors(&appraisals, &evidence);
        let told = before
            .map(|before| before.selectors.as_slice())
            .unwrap_or_default();
        let is_certified = |selector: &&String| CERTIFIED.iter().any(|kind| selector.starts_with(kind));
        let mut outcome = Outcome {
            standings: appraisals.iter().map(standing).collect(),
            selectors,
        };
        outcome.set_firmware(shown.tpm_firmware);
        outcome.add(told.iter().filter(is_certified).cloned());
        Ok(outcome)
    }
}

/// SHA-256 over what decides, shortened: two sets of generations of one operator don't have the same by accident.
fn generation(all: &[Arc<Generations>]) -> u64 {
    if all.is_empty() {
        return 0;
    }
    let mut text = Vec::new();
    for generation in all.iter().flat_map(|policy| policy.iter()) {
        text.extend_from_slice(generation.id().as_bytes());
        text.push(u8::from(generation.stage == Stage::Enforced));
    }
    let digest = HashAlg::Sha256.digest(&[&text]);
    let first = digest.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first).max(1)
}

impl PolicyStanding {
    fn of(appraisal: &Appraisal, before: &[Self], now: Timestamp) -> Self {
        let judgements: Vec<_> = appraisal.judgements.iter().map(PolicyJudgement::of).collect();
        let same = before
            .iter()
            .find(|before| before.name == appraisal.name && before.judgements == judgements);
        Self {
            name: appraisal.name.clone(),
            since: same.map_or(now, |same| same.since),
            judgements,
        }
    }

    /// What follows from it.
    ///
    /// # Errors
    ///
    /// Generations are enforced, and none of them is met.
    pub fn check(&self) -> Result<(), PolicyNotMet> {
        let enforced = || self.judgements.iter().filter(|judgement| judgement.is_enforced);
        if enforced().next().is_none() || enforced().any(PolicyJudgement::is_met) {
            return Ok(());
        }
        let differences: Vec<_> = enforced().map(PolicyJudgement::to_string).collect();
        Err(PolicyNotMet {
            name: self.name.clone(),
            differences: differences.join("; "),
        })
    }

    /// Whether an enforced generation is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let mut judgements = self.judgements.iter();
        judgements.any(|judgement| judgement.is_enforced && judgement.is_met())
    }
}

impl PolicyJudgement {
    fn of(judgement: &Judgement) -> Self {
        let differences = &judgement.differences;
        let kept = differences.iter().take(MAX_KEPT);
        let left_out = differences.iter().skip(MAX_KEPT).count();
        Self {
            generation: judgement.id.to_string(),
            version: judgement.version,
            is_enforced: judgement.stage == Stage::Enforced,
            differences: kept.map(|difference| shortened(difference.to_string())).collect(),
            more: differences
                .more()
                .saturating_add(u32::try_from(left_out).unwrap_or(u32::MAX)),
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.differences.is_empty()
    }
}

/// `version 2: PCR 4: expected …, found …`.
impl std::fmt::Display for PolicyJudgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {}: ", self.version)?;
        match (self.differences.as_slice(), self.more) {
            ([], _) => f.write_str("met"),
            (differences, 0) => f.write_str(&differences.join(", ")),
            (differences, more) => write!(f, "{}, and {more} more", differences.join(", ")),
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_KEPT_LEN {
        let mut end = MAX_KEPT_LEN;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        // To a string that never fails.
        let _written = write!(text, "…");
    }
    text
}

impl Outcome {
    /// Says which firmware the TPM has.
    pub fn set_firmware(&mut self, version: u64) {
        self.selectors.retain(|selector| !selector.starts_with(FIRMWARE));
        self.add([format!("{FIRMWARE}{version:016x}")]);
    }

    /// Adds selectors.
    pub fn add(&mut self, selectors: impl IntoIterator<Item = String>) {
        self.selectors.extend(selectors);
        self.selectors.sort();
        self.selectors.dedup();
    }

    /// What follows from all policies.
    ///
    /// # Errors
    ///
    /// One is enforced and not met: the first by name.
    pub fn check(&self) -> Result<(), PolicyNotMet> {
        self.standings.iter().try_for_each(PolicyStanding::check)
    }
}
