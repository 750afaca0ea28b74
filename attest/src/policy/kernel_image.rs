//! A unified kernel image in a policy, and the sections that were measured of the one that booted.

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, Reference, command_line::Texts, difference::quoted,
    evidence::Measured,
};
use crate::{
    Reject,
    event_log::{UKI_PCR, uki_sections},
};

/// A unified kernel image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Uki {
    /// What an operator calls it.
    pub name: String,
    /// Authenticode digest of the image.
    pub image: Reference,
    /// Authenticode digest of the kernel inside, which the stub starts as an image of its own where Secure Boot is off.
    pub kernel: Option<Reference>,
    /// Names of the sections with the digests of what is in them, as the stub measures them.
    pub sections: Vec<(String, Reference)>,
    /// The command line that its section `.cmdline` holds, so that differences can show it.
    pub command_line: Option<String>,
}

/// A section that was measured.
pub(super) struct Section<'a, 'b> {
    name: &'static str,
    content: &'b Measured<'a>,
}

/// The sections of the image that booted, of the events of PCR 11; none if it was no unified kernel image.
pub(super) fn sections<'a, 'b>(
    evidence: &Evidence<'_>,
    events: &'b [Measured<'a>],
) -> Result<Vec<Section<'a, 'b>>, Reject> {
    let found = evidence.measurements(UKI_PCR).map(uki_sections).transpose()?;
    let sections = found.flatten().unwrap_or_default();
    let section = |name, index| {
        let content = events.iter().find(|event| event.index == index)?;
        Some(Section { name, content })
    };
    Ok(sections
        .iter()
        .filter_map(|found| section(found.name, found.index))
        .collect())
}

impl Uki {
    /// Whether its command line, if it is there, is that of its section.
    pub(super) fn has_its_command_line(&self) -> bool {
        let digest = self.sections.iter().find(|(name, _)| name == ".cmdline");
        match (&self.command_line, digest) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(text), Some((_, digest))) => Texts::new([text.as_str()]).of_section(digest).is_some(),
        }
    }

    /// Whether `images` are those that it starts.
    pub(super) fn starts(&self, images: &[&Measured<'_>]) -> bool {
        match images {
            [image] => image.is(&self.image),
            [image, inner] => {
                image.is(&self.image) && self.kernel.as_ref().is_some_and(|kernel| inner.is(kernel))
            }
            _ => false,
        }
    }

    pub(super) fn has(&self, sections: &[Section<'_, '_>]) -> bool {
        let is_same = |((name, digest), section): (&(String, Reference), &Section<'_, '_>)| {
            name == section.name && section.content.is(digest)
        };
        self.sections.len() == sections.len() && self.sections.iter().zip(sections).all(is_same)
    }

    /// How many sections are as it has them.
    pub(super) fn likeness(&self, sections: &[Section<'_, '_>]) -> usize {
        let has = |(name, digest): &&(String, Reference)| {
            sections
                .iter()
                .any(|section| section.name == name && section.content.is(digest))
        };
        self.sections.iter().filter(has).count()
    }

    /// Names each section that is not as the policy has it.
    pub(super) fn name_sections(
        &self,
        sections: &[Section<'_, '_>],
        texts: &Texts<'_>,
        differences: &mut Differences,
    ) {
        for (name, digest) in &self.sections {
            let found = sections.iter().find(|section| section.name == name);
            if found.is_some_and(|section| section.content.is(digest)) {
                continue;
            }
            let shown = |digest: &Reference| match name.as_str() {
                ".cmdline" => texts.shown(texts.of_section(digest), digest),
                _ => digest.to_string(),
            };
            let of_content = |content: &Measured<'_>| {
                let digest = content.digests.iter().find(|found| found.alg() == digest.alg());
                digest
                    .or_else(|| content.digests.first())
                    .map_or_else(String::new, shown)
            };
            differences.push(Difference {
                kind: DifferenceKind::UkiSection,
                subject: format!("section `{name}` of the kernel image"),
                expected: format!("{} of `{}`", shown(digest), self.name),
                found: found.map_or_else(|| "none".into(), |section| of_content(section.content)),
                event: found.map(|section| section.content.place()),
            });
        }
        let unknown = |section: &&Section<'_, '_>| self.sections.iter().all(|(name, _)| name != section.name);
        for section in sections.iter().filter(unknown) {
            differences.push(Difference {
                kind: DifferenceKind::UkiSection,
                subject: format!("section `{}` of the kernel image", section.name),
                expected: format!("none in {}", quoted(&self.name)),
                found: section.content.digest(self.image.alg()),
                event: Some(section.content.place()),
            });
        }
    }
}
