//! The initial file system (PCR 9, and PCR 11 of unified kernel images).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, Reference, command_line::Texts, difference::one_of,
    evidence::Measured,
};
use crate::event_log::{UKI_PCR, uki_sections};

/// Which initial file systems a kernel may have.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct InitrdRule {
    /// Digests of the files, or of the sections `.initrd`; one has to be there.
    pub digests: BTreeSet<Reference>,
    /// Digests of whatever else may be in PCR 9, such as files that GRUB reads.
    pub files: BTreeSet<Reference>,
}

impl InitrdRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, texts: &Texts<'_>, differences: &mut Differences) {
        let [Some(kernel), Some(stub)] = [9, UKI_PCR].map(|pcr| evidence.events(pcr)) else {
            let missing = [9, UKI_PCR]
                .into_iter()
                .filter(|pcr| evidence.events(*pcr).is_none());
            return missing.for_each(|pcr| differences.not_proven(pcr));
        };
        let sections = evidence
            .measurements(UKI_PCR)
            .and_then(|pcr| uki_sections(pcr).ok().flatten());
        let initrd = sections
            .iter()
            .flatten()
            .find(|section| section.name == ".initrd");
        let embedded = initrd.and_then(|section| stub.iter().find(|event| event.index == section.index));
        if let Some(event) = embedded.filter(|event| !is_any(&self.digests, event)) {
            differences.push(self.difference(event));
        }
        // The stub hands on what PCR 11 holds, and what it finds beside the image.
        let is_known = |event: &&Measured<'_>| self.knows(event) || texts.is_load_options(event);
        kernel
            .iter()
            .filter(|event| !is_known(event))
            .for_each(|event| differences.push(self.difference(event)));
        if embedded.is_none() && !kernel.iter().any(|event| is_any(&self.digests, event)) {
            let found = format!("none of them in {} events of PCR 9", kernel.len());
            differences.push(Difference {
                found,
                ..self.missing()
            });
        }
    }

    /// Whether the event is of an initial file system that may be, or of another file.
    fn knows(&self, event: &Measured<'_>) -> bool {
        is_any(&self.digests, event) || is_any(&self.files, event)
    }

    fn difference(&self, event: &Measured<'_>) -> Difference {
        let alg = self
            .digests
            .first()
            .map_or(crate::HashAlg::Sha256, Reference::alg);
        Difference {
            found: event.digest(alg),
            event: Some(event.place()),
            ..self.missing()
        }
    }

    fn missing(&self) -> Difference {
        Difference {
            kind: DifferenceKind::Initrd,
            subject: "what the kernel was given".into(),
            expected: one_of(&self.digests),
            found: "none".into(),
            event: None,
        }
    }
}

fn is_any(references: &BTreeSet<Reference>, event: &Measured<'_>) -> bool {
    event.digests.iter().any(|digest| references.contains(digest))
}
