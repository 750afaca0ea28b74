//! What firmware may start: images by their Authenticode digests (PCR 4), and unified kernel images by their sections
//! too (PCR 11).

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, Reference, Uki,
    command_line::Texts,
    difference::{one_of, quoted},
    evidence::Measured,
    kernel_image::sections,
};
use crate::{
    HashAlg,
    event_log::{Handover, UKI_PCR},
};

/// What may be started; one of the chains or kernel images has to be.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BootRule {
    /// Images that firmware may start before it calls the boot option, such as its own menus.
    pub before: Vec<Reference>,
    /// Whether firmware need not have said that it ended: for machines whose firmware never measures that. Where it is
    /// not set, a loader that still runs on firmware meets no rule.
    pub silent_end: bool,
    /// Boot loaders that may come before a unified kernel image: shim, systemd-boot.
    pub loaders: Vec<Reference>,
    /// Images that start one another, in this order: shim, GRUB, kernel.
    pub chain: Vec<Chain>,
    /// Unified kernel images, behind loaders or not.
    pub uki: Vec<Uki>,
}

/// Images that start one another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// What an operator calls it.
    pub name: String,
    /// Authenticode digests, in the order in which they start.
    pub images: Vec<Reference>,
}

impl BootRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, texts: &Texts<'_>, differences: &mut Differences) {
        let (Some(measurements), Some(events)) = (evidence.measurements(4), evidence.events(4)) else {
            return differences.not_proven(4);
        };
        if measurements.of(5).is_none() {
            return differences.not_proven(5);
        }
        let handover = match Handover::of(measurements) {
            Ok(handover) if handover.has_ended || self.silent_end => handover,
            Ok(_) => return differences.push(no_handover("firmware that says nothing of its end".into())),
            Err(reject) => return differences.push(no_handover(reject.to_string())),
        };
        let at = |index: &u32| events.iter().find(|event| event.index == *index);
        for event in handover.before.iter().filter_map(at) {
            if !self.before.iter().any(|known| event.is(known)) {
                differences.push(image("image before the boot option", one_of(&self.before), event));
            }
        }
        let images: Vec<_> = handover.images.iter().filter_map(at).collect();
        self.check_images(evidence, &images, texts, differences);
    }

    fn check_images(
        &self,
        evidence: &Evidence<'_>,
        images: &[&Measured<'_>],
        texts: &Texts<'_>,
        differences: &mut Differences,
    ) {
        if self.chain.iter().any(|chain| chain.is(images)) || self.find_uki(evidence, images).is_some() {
            return;
        }
        let before = differences.len();
        self.name_images(images, differences);
        if !self.uki.is_empty() {
            self.name_sections(evidence, texts, differences);
        }
        // Each part may be that of an image that is known, and still not all of the same one.
        if differences.len() == before {
            differences.push(self.unlike("an image and sections that do not belong together".into()));
        }
    }

    /// The kernel image that booted, by all that is known of it.
    pub(super) fn booted_uki(&self, evidence: &Evidence<'_>) -> Option<&Uki> {
        let events = evidence.events(4)?;
        let handover = Handover::of(evidence.measurements(4)?).ok()?;
        let at = |index: &u32| events.iter().find(|event| event.index == *index);
        let images: Vec<_> = handover.images.iter().filter_map(at).collect();
        self.find_uki(evidence, &images)
    }

    fn find_uki(&self, evidence: &Evidence<'_>, images: &[&Measured<'_>]) -> Option<&Uki> {
        let events = evidence.events(UKI_PCR)?;
        let sections = sections(evidence, &events).ok()?;
        let started = self.behind_loaders(images);
        self.uki
            .iter()
            .find(|uki| uki.starts(started) && uki.has(&sections))
    }

    fn name_sections(&self, evidence: &Evidence<'_>, texts: &Texts<'_>, differences: &mut Differences) {
        let Some(events) = evidence.events(UKI_PCR) else {
            return differences.not_proven(UKI_PCR);
        };
        let sections = match sections(evidence, &events) {
            Ok(sections) => sections,
            Err(reject) => return differences.push(self.unlike(reject.to_string())),
        };
        if let Some(nearest) = self.uki.iter().max_by_key(|uki| uki.likeness(&sections)) {
            nearest.name_sections(&sections, texts, differences);
        }
    }

    fn unlike(&self, found: String) -> Difference {
        Difference {
            kind: DifferenceKind::UkiSection,
            subject: "kernel image".into(),
            expected: one_of(self.uki.iter().map(|uki| quoted(&uki.name))),
            found,
            event: None,
        }
    }

    fn behind_loaders<'a, 'b>(&self, images: &'b [&'b Measured<'a>]) -> &'b [&'b Measured<'a>] {
        let is_loader = |image: &&Measured<'_>| self.loaders.iter().any(|loader| image.is(loader));
        let loaders = images.iter().take_while(|image| is_loader(image)).count();
        images.get(loaders..).unwrap_or_default()
    }

    /// Names the images that are not as in the chain or kernel image that begins most like them.
    fn name_images(&self, images: &[&Measured<'_>], differences: &mut Differences) {
        let behind = self.behind_loaders(images);
        let chains = self.chain.iter().map(|chain| Wanted {
            name: &chain.name,
            images: chain.images.iter().collect(),
            found: images,
        });
        let ukis = self.uki.iter().map(|uki| Wanted {
            name: &uki.name,
            // The kernel inside is no image of its own where Secure Boot is on.
            images: std::iter::once(&uki.image)
                .chain(&uki.kernel)
                .take(behind.len().max(1))
                .collect(),
            found: behind,
        });
        // Of equal ones the last counts: it is the newest.
        match chains.chain(ukis).max_by_key(Wanted::likeness) {
            Some(wanted) => wanted.name_images(differences),
            None => images.iter().for_each(|found| {
                differences.push(image("image", "none: the policy has no images".into(), found));
            }),
        }
    }
}

/// Images that should have been started, and those that were.
struct Wanted<'a, 'b, 'c> {
    name: &'a str,
    images: Vec<&'a Reference>,
    found: &'b [&'b Measured<'c>],
}

impl Wanted<'_, '_, '_> {
    /// How many images at the beginning are those that should be.
    fn likeness(&self) -> usize {
        let pairs = self.images.iter().zip(self.found);
        pairs.take_while(|(wanted, found)| found.is(wanted)).count()
    }

    fn name_images(&self, differences: &mut Differences) {
        for position in 0..self.images.len().max(self.found.len()) {
            let subject = format!("image {} that was started", position + 1);
            let of_policy = |wanted: &Reference| format!("{wanted} of {}", quoted(self.name));
            match (self.images.get(position), self.found.get(position)) {
                (Some(wanted), Some(found)) if !found.is(wanted) => {
                    differences.push(image(&subject, of_policy(wanted), found));
                }
                (None, Some(found)) => differences.push(image(&subject, "no further image".into(), found)),
                (Some(wanted), None) => differences.push(Difference {
                    kind: DifferenceKind::BootImage,
                    subject,
                    expected: of_policy(wanted),
                    found: "no further image".into(),
                    event: None,
                }),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }
}

impl Chain {
    fn is(&self, images: &[&Measured<'_>]) -> bool {
        self.images.len() == images.len()
            && self
                .images
                .iter()
                .zip(images)
                .all(|(known, image)| image.is(known))
    }
}

fn no_handover(found: String) -> Difference {
    Difference {
        kind: DifferenceKind::Handover,
        subject: "hand-over".into(),
        expected: "firmware that calls a boot option and then ends".into(),
        found,
        event: None,
    }
}

fn image(subject: &str, expected: String, found: &Measured<'_>) -> Difference {
    let alg = found.digests.first().map_or(HashAlg::Sha256, Reference::alg);
    Difference {
        kind: DifferenceKind::BootImage,
        subject: subject.into(),
        expected,
        found: found.digest(alg),
        event: Some(found.place()),
    }
}
