//! The kernel's command line. PCRs hold its digest; what it says is known if somebody names a text that has it.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, Policy, Reference,
    difference::{one_of, quoted},
    evidence::Measured,
};
use crate::{
    HashAlg,
    event_log::{Content, UKI_PCR, uki_sections},
};

/// Which command lines a kernel may have.
///
/// Looked at are the section `.cmdline` of a unified kernel image (PCR 11), what systemd's stub or boot loader passes on
/// (PCR 12), and what the kernel's own stub was passed (PCR 9). All that is there has to be allowed, and PCR 9 has to hold
/// one: whoever owns the system can extend PCRs later by command lines that never were, but he can't take away what
/// the kernel measured. So whatever else is in PCR 9 has to be named, by [`InitrdRule`](super::InitrdRule) or as the
/// `.initrd` of a [`Uki`](super::Uki). Kernels that do not measure their load options have none that is proven. Nor has
/// what GRUB says of it (PCR 8): no digest tells it from other commands. Pin PCR 8 there.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CommandLineRule {
    /// Whole command lines.
    pub exact: BTreeSet<String>,
    /// Words that it may consist of, if none of `exact` fits: literally, or up to a `*` at the end.
    pub allow: BTreeSet<String>,
    /// Words that it has to have as well.
    pub require: BTreeSet<String>,
}

/// Texts that may be what was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts<'a>(Vec<Cow<'a, str>>);

/// A command line that was measured.
struct Found<'a, 'b> {
    event: &'b Measured<'a>,
    /// Nothing if nobody names it.
    text: Option<String>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().map(Cow::Borrowed).collect())
    }

    /// Those that the policy names, that the host says it has, and that the log holds.
    pub(super) fn of(policy: &'a Policy, evidence: &Evidence<'a>) -> Self {
        let exact = policy.command_line.iter().flat_map(|rule| &rule.exact);
        let ukis = policy.boot.iter().flat_map(|boot| &boot.uki);
        let of_ukis = ukis.filter_map(|uki| uki.command_line.as_ref());
        let named = exact.chain(of_ukis).map(|text| Cow::Borrowed(text.as_str()));
        Self(named.chain(Self::of_host(evidence).0).collect())
    }

    /// What the host says it has, and what the log holds.
    pub(super) fn of_host(evidence: &Evidence<'a>) -> Self {
        let passed = evidence.events(12).unwrap_or_default();
        let logged = passed.iter().filter_map(|event| match event.content {
            Content::Whole(bytes) => utf16(bytes).map(Cow::Owned),
            Content::Absent | Content::Part(_) | Content::Unended(_) => None,
        });
        Self(
            evidence
                .command_line()
                .map(Cow::Borrowed)
                .into_iter()
                .chain(logged)
                .collect(),
        )
    }

    /// The text that a section with this digest holds; builders may end it with a line feed or NUL.
    pub(super) fn of_section(&self, digest: &Reference) -> Option<&str> {
        let is_it = |text: &&Cow<'_, str>| {
            [&b""[..], b"\n", b"\0"]
                .into_iter()
                .any(|end| digest.alg().digest(&[text.as_bytes(), end]) == *digest.digest())
        };
        self.0.iter().find(is_it).map(AsRef::as_ref)
    }

    /// The text that is passed to a kernel as load options with this digest: UTF-16, and NUL.
    fn of_load_options(&self, digest: &Reference) -> Option<&str> {
        let is_it = |text: &&Cow<'_, str>| load_options(text, digest.alg()) == *digest.digest();
        self.0.iter().find(is_it).map(AsRef::as_ref)
    }

    pub(super) fn is_load_options(&self, event: &Measured<'_>) -> bool {
        event
            .digests
            .iter()
            .any(|digest| self.of_load_options(digest).is_some())
    }

    /// The text, or the digest of what nobody names.
    pub(super) fn shown(&self, text: Option<&str>, digest: &Reference) -> String {
        text.map_or_else(|| format!("a text of digest {digest}"), quoted)
    }
}

fn load_options(text: &str, alg: HashAlg) -> crate::Digest {
    let units: Vec<u8> = text
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    alg.digest(&[&units])
}

impl CommandLineRule {
    /// Whether the text is one that may be.
    #[must_use]
    pub fn allows(&self, text: &str) -> bool {
        let text = text.trim_matches([' ', '\n', '\0']);
        if self.exact.iter().any(|exact| exact.trim() == text) {
            return true;
        }
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let may_be = |word: &&str| self.allow.iter().any(|pattern| matches(pattern, word));
        let is_there = |pattern: &String| words.iter().any(|word| matches(pattern, word));
        !self.allow.is_empty() && words.iter().all(may_be) && self.require.iter().all(is_there)
    }

    /// `is_file` says what else may be in PCR 9, or is for another rule to refuse.
    pub(super) fn check(
        &self,
        evidence: &Evidence<'_>,
        texts: &Texts<'_>,
        is_file: impl Fn(&Measured<'_>) -> bool,
        differences: &mut Differences,
    ) {
        let [Some(kernel), Some(stub), Some(passed)] = [9, UKI_PCR, 12].map(|pcr| evidence.events(pcr))
        else {
            let missing = [9, UKI_PCR, 12]
                .into_iter()
                .filter(|pcr| evidence.events(*pcr).is_none());
            return missing.for_each(|pcr| differences.not_proven(pcr));
        };
        let kernel: Vec<_> = kernel
            .iter()
            .filter(|event| texts.is_load_options(event) || !is_file(event))
            .map(|event| Found::passed(event, texts))
            .collect();
        let is_none = kernel.is_empty();
        let before = differences.len();
        for found in named_places(evidence, &stub, &passed, texts)
            .into_iter()
            .chain(kernel)
        {
            if !found.text.as_ref().is_some_and(|text| self.allows(text)) {
                differences.push(self.difference(found.shown(texts), Some(found.event)));
            }
        }
        // Where another one is refused, that is what there is to say.
        if is_none && differences.len() == before {
            differences.push(self.difference("none in PCR 9".into(), None));
        }
    }

    /// The command lines that are proven, so far as anybody names them.
    pub(super) fn proven(evidence: &Evidence<'_>, texts: &Texts<'_>) -> BTreeSet<String> {
        let [kernel, stub, passed] = [9, UKI_PCR, 12].map(|pcr| evidence.events(pcr).unwrap_or_default());
        let mut found = named_places(evidence, &stub, &passed, texts);
        found.extend(kernel.iter().map(|event| Found::passed(event, texts)));
        found.into_iter().filter_map(|found| found.text).collect()
    }

    fn difference(&self, found: String, event: Option<&Measured<'_>>) -> Difference {
        let exact = one_of(self.exact.iter().map(|text| quoted(text)));
        let expected = match (self.allow.is_empty(), self.exact.is_empty()) {
            (true, _) => exact,
            (false, true) => "the words that are allowed, and those that are required".into(),
            (false, false) => format!("{exact}, or words that are allowed"),
        };
        Difference {
            kind: DifferenceKind::CommandLine,
            subject: "command line".into(),
            expected,
            found,
            event: event.map(Measured::place),
        }
    }
}

/// What the section `.cmdline` says, and what is passed on besides.
fn named_places<'a, 'b>(
    evidence: &Evidence<'_>,
    stub: &'b [Measured<'a>],
    passed: &'b [Measured<'a>],
    texts: &Texts<'_>,
) -> Vec<Found<'a, 'b>> {
    let sections = evidence
        .measurements(UKI_PCR)
        .and_then(|pcr| uki_sections(pcr).ok().flatten());
    let cmdline = sections
        .iter()
        .flatten()
        .find(|section| section.name == ".cmdline");
    let embedded = cmdline.and_then(|section| stub.iter().find(|event| event.index == section.index));
    let embedded = embedded.map(|event| Found::in_section(event, texts));
    let passed = passed.iter().map(|event| Found::passed(event, texts));
    embedded.into_iter().chain(passed).collect()
}

impl<'a, 'b> Found<'a, 'b> {
    fn in_section(event: &'b Measured<'a>, texts: &Texts<'_>) -> Self {
        let mut texts = event.digests.iter().filter_map(|digest| texts.of_section(digest));
        Self {
            event,
            text: texts.next().map(str::to_owned),
        }
    }

    /// As load options.
    fn passed(event: &'b Measured<'a>, texts: &Texts<'_>) -> Self {
        let mut named = event
            .digests
            .iter()
            .filter_map(|digest| texts.of_load_options(digest));
        Self {
            event,
            text: named.next().map(str::to_owned),
        }
    }

    fn shown(&self, texts: &Texts<'_>) -> String {
        let digest = self.event.digests.first();
        digest.map_or_else(String::new, |digest| texts.shown(self.text.as_deref(), digest))
    }
}

/// A text in UTF-16 that ends with NUL.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks();
    let units = units.iter().copied().map(u16::from_le_bytes);
    let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
    text.strip_suffix('\0')
        .filter(|_| rest.is_empty())
        .map(str::to_owned)
}

fn matches(pattern: &str, word: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => pattern == word,
    }
}
