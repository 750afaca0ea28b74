//! The policies that a host is held to, and what becomes of it under them.

use std::{fmt::Write, sync::Arc};

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::EventLog,
    ima::{Entry, ProvenList},
    policy::{
        Appraisal, Differences, Evidence, GenerationId, Generations, Judgement, PolicyName, Stage, appraise,
        judge_entries, selectors,
    },
};
use svid::Timestamp;

use crate::{Appraised, KernelList};

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
    /// What its kernel measured, where that is looked at.
    pub list: Option<&'a ProvenList>,
    /// What it says that its kernel's command line is: shown where PCRs hold its digest.
    pub command_line: Option<&'a str>,
}

/// What differs between entries of a kernel's list and each generation that a host is held to.
#[derive(Clone, Debug, Default)]
pub struct ListFindings(Vec<(GenerationId, Differences)>);

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
/// Selectors that say what the kernel's list is worth.
const LIST: &str = "ima:";
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

    /// Those of [`needed_pcrs`](Self::needed_pcrs) that generations need from which something follows.
    #[must_use]
    pub fn enforced_pcrs(&self) -> PcrSet {
        let generations = self.all.iter().flat_map(|policy| policy.iter());
        generations
            .filter(|generation| generation.stage == Stage::Enforced)
            .flat_map(|generation| generation.policy.needed_pcrs().iter().collect::<Vec<_>>())
            .filter(|pcr| *pcr != IMA_PCR)
            .collect()
    }

    /// The PCRs that they need and that a quote over `selection` does not cover in each of its banks.
    #[must_use]
    pub fn pcrs_missing_in(&self, selection: &PcrSelection) -> PcrSet {
        let is_covered = |pcr: &u8| selection.banks().all(|(_, quoted)| quoted.contains(*pcr));
        let needed = self.needed_pcrs();
        needed.iter().filter(|pcr| !is_covered(pcr)).collect()
    }

    /// Whether every host that meets `others` meets these: of each policy of which anything is enforced here, something is
    /// there, and nothing else than here.
    #[must_use]
    pub fn is_met_by_who_meets(&self, others: &Self) -> bool {
        let is_met = |policy: &Arc<Generations>| {
            let here: Vec<_> = enforced(policy).collect();
            let there = others.all.iter().find(|other| other.name() == policy.name());
            let mut there = there.into_iter().flat_map(|other| enforced(other)).peekable();
            here.is_empty() || (there.peek().is_some() && there.all(|id| here.contains(&id)))
        };
        self.all.iter().all(is_met)
    }

    /// Those of [`needed_pcrs`](Self::needed_pcrs) that programs may extend without telling a log.
    #[must_use]
    pub fn unlogged_pcrs(&self) -> PcrSet {
        let needed = self.needed_pcrs();
        needed.iter().filter(|pcr| !LOGGED.contains(pcr)).collect()
    }

    /// Whether any of them says which files a kernel may measure.
    #[must_use]
    pub fn wants_list(&self) -> bool {
        let mut generations = self.all.iter().flat_map(|policy| policy.iter());
        generations.any(|generation| generation.policy.ima.is_some())
    }

    /// What follows from `standings`, if they say of all that is enforced here whether it is met; at which stage it was then
    /// makes no difference.
    #[must_use]
    pub fn check_noted(&self, standings: &[PolicyStanding]) -> Option<Result<(), PolicyNotMet>> {
        for policy in &self.all {
            let noted = standings.iter().find(|standing| standing.name == *policy.name());
            let judgement = |id: GenerationId| {
                let mut judgements = noted?.judgements.iter();
                let noted = judgements.find(|judgement| judgement.generation == id.to_string())?;
                Some(PolicyJudgement {
                    is_enforced: true,
                    ..noted.clone()
                })
            };
            let judgements: Option<Vec<_>> = enforced(policy).map(judgement).collect();
            if let Err(not_met) = check(policy.name(), &judgements?) {
                return Some(Err(not_met));
            }
        }
        Some(Ok(()))
    }

    /// Adds what differs between `entries` of a kernel's list and each generation; `before` of the boot came before them.
    pub fn judge_entries<'a>(
        &self,
        entries: &(impl Iterator<Item = Entry<'a>> + Clone),
        before: u64,
        findings: &mut ListFindings,
    ) {
        for generation in self.all.iter().flat_map(|policy| policy.iter()) {
            let mut differences = findings.take(generation.id());
            judge_entries(&generation.policy, entries.clone(), before, &mut differences);
            findings.0.push((generation.id(), differences));
        }
    }

    /// What a host without a log does not meet, if anything of them is enforced: none of a policy is met then.
    #[must_use]
    pub fn not_met_without_log(&self) -> Option<PolicyNotMet> {
        let is_enforced = |policy: &&Arc<Generations>| {
            let mut generations = policy.iter();
            generations.any(|generation| generation.stage == Stage::Enforced)
        };
        self.all.iter().find(is_enforced).map(|policy| PolicyNotMet {
            name: policy.name().clone(),
            differences: "the host has no event log".into(),
        })
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
        let evidence = match shown.list {
            Some(list) => evidence.with_ima(list),
            None => evidence,
        };
        let evidence = match shown.command_line {
            Some(text) => evidence.with_command_line(text),
            None => evidence,
        };
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
        let mut outcome = Outcome {
            standings: appraisals.iter().map(standing).collect(),
            selectors,
        };
        outcome.set_firmware(shown.tpm_firmware);
        let kinds = CERTIFIED.into_iter().chain([LIST]);
        outcome.add(told(before, kinds).cloned());
        Ok(outcome)
    }
}

/// The selectors of these kinds that are on record.
fn told(
    before: Option<&Appraised>,
    kinds: impl Iterator<Item = &'static str> + Clone,
) -> impl Iterator<Item = &String> {
    let selectors = before.into_iter().flat_map(|before| &before.selectors);
    selectors.filter(move |selector| kinds.clone().any(|kind| selector.starts_with(kind)))
}

fn enforced(policy: &Generations) -> impl Iterator<Item = GenerationId> + '_ {
    let enforced = policy
        .iter()
        .filter(|generation| generation.stage == Stage::Enforced);
    enforced.map(attest::policy::Generation::id)
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

fn check(name: &PolicyName, judgements: &[PolicyJudgement]) -> Result<(), PolicyNotMet> {
    let enforced = || judgements.iter().filter(|judgement| judgement.is_enforced);
    if enforced().next().is_none() || enforced().any(PolicyJudgement::is_met) {
        return Ok(());
    }
    let differences: Vec<_> = enforced().map(PolicyJudgement::to_string).collect();
    Err(PolicyNotMet {
        name: name.clone(),
        differences: differences.join("; "),
    })
}

impl PolicyStanding {
    fn of(appraisal: &Appraisal, before: &[Self], now: Timestamp) -> Self {
        let judgements: Vec<_> = appraisal.judgements.iter().map(PolicyJudgement::of).collect();
        let standing = Self {
            name: appraisal.name.clone(),
            since: now,
            judgements,
        };
        let same = before.iter().find(|before| before.is_alike(&standing));
        Self {
            since: same.map_or(now, |same| same.since),
            ..standing
        }
    }

    /// What follows from it.
    ///
    /// # Errors
    ///
    /// Generations are enforced, and none of them is met.
    pub fn check(&self) -> Result<(), PolicyNotMet> {
        check(&self.name, &self.judgements)
    }

    /// Whether `other` says the same, but for how many differences there are beyond those that are kept.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        let mut both = self.judgements.iter().zip(&other.judgements);
        self.name == other.name
            && self.judgements.len() == other.judgements.len()
            && both.all(|(one, other)| one.is_alike(other))
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

    fn is_alike(&self, other: &Self) -> bool {
        (
            &self.generation,
            self.version,
            self.is_enforced,
            &self.differences,
        ) == (
            &other.generation,
            other.version,
            other.is_enforced,
            &other.differences,
        )
    }

    /// Adds further differences; says whether any of them is kept.
    fn add(&mut self, differences: &Differences) -> bool {
        let room = MAX_KEPT.saturating_sub(self.differences.len());
        let kept = differences.iter().take(room);
        let left_out = differences.iter().skip(room).count();
        self.differences
            .extend(kept.map(|difference| shortened(difference.to_string())));
        let more = differences
            .more()
            .saturating_add(u32::try_from(left_out).unwrap_or(u32::MAX));
        self.more = self.more.saturating_add(more);
        room > 0 && !differences.is_empty()
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

impl ListFindings {
    /// What was found by a generation so far.
    fn take(&mut self, id: GenerationId) -> Differences {
        let known = self.0.iter().position(|(known, _)| *known == id);
        known
            .map(|position| self.0.swap_remove(position).1)
            .unwrap_or_default()
    }
}

impl Outcome {
    /// Of evidence without a log: what certificates said of the TPM is still so.
    #[must_use]
    pub fn without_log(before: Option<&Appraised>) -> Self {
        Self {
            standings: Vec::new(),
            selectors: told(before, CERTIFIED.into_iter()).cloned().collect(),
        }
    }

    /// Says what the kernel's list is worth. The PCRs that it extends say nothing by themselves: they go on.
    pub fn set_list(&mut self, list: Option<&KernelList>) {
        let extended = list.iter().flat_map(|list| list.progress.pcrs().iter());
        let gone: Vec<_> = extended
            .map(|(alg, pcr, _)| format!("pcr:{alg}:{pcr}:"))
            .chain([LIST.to_owned()])
            .collect();
        let is_gone = |selector: &String| gone.iter().any(|kind| selector.starts_with(kind));
        self.selectors.retain(|selector| !is_gone(selector));
        let is_clean = list.is_some_and(|list| list.violations == 0);
        self.add(list.map(|_| "ima:proven".into()));
        self.add(is_clean.then(|| "ima:clean".into()));
    }

    /// Adds what was found in entries of the kernel's list that the evidence did not have at once.
    pub fn add_findings(&mut self, findings: &ListFindings, now: Timestamp) {
        for standing in &mut self.standings {
            for (id, differences) in findings.0.iter().filter(|(_, found)| !found.is_empty()) {
                let id = id.to_string();
                for judgement in standing
                    .judgements
                    .iter_mut()
                    .filter(|known| known.generation == id)
                {
                    if judgement.add(differences) {
                        standing.since = now;
                    }
                }
            }
            if !standing.is_met() {
                let met = format!("policy:{}", standing.name);
                self.selectors.retain(|selector| *selector != met);
            }
        }
    }

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
