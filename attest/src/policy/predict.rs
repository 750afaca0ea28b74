//! Kernel images that have not booted yet, made a part of a policy.

use super::{BootRule, Policy, Reference, Uki, text};
use crate::uki::Prediction;

impl Uki {
    /// What a boot of the image will measure. Nothing if the prediction is of SHA-1, which nothing is decided on.
    #[must_use]
    pub fn predicted(name: &str, prediction: &Prediction) -> Option<Self> {
        let reference = |digest: &crate::Digest| Reference::new(prediction.alg, digest.as_bytes());
        let sections = prediction.sections.iter();
        Some(Self {
            name: name.into(),
            image: reference(&prediction.image)?,
            kernel: prediction.kernel.as_ref().and_then(reference),
            sections: sections
                .map(|(section, digest)| Some((section.clone(), reference(digest)?)))
                .collect::<Option<_>>()?,
            command_line: prediction.command_line.clone(),
        })
    }

    /// As the table that a policy has of it.
    #[must_use]
    pub fn table(&self) -> String {
        text::kernel_image(self)
    }

    pub(super) fn section(&self, name: &str) -> Option<&Reference> {
        let mut sections = self.sections.iter();
        sections
            .find(|(section, _)| section == name)
            .map(|(_, digest)| digest)
    }
}

impl Policy {
    /// The next version of this policy, which accepts a kernel image as well, by what each bank of PCRs will hold of it:
    /// where the policy asks for the command line and the initial file system, those of the image may be.
    #[must_use]
    pub fn with_kernel_image(mut self, banks: Vec<Uki>) -> Self {
        self.version = self.version.saturating_add(1);
        for uki in banks {
            if let Some(rule) = &mut self.command_line {
                rule.exact.extend(uki.command_line.clone());
            }
            if let Some(rule) = &mut self.initrd {
                rule.digests.extend(uki.section(".initrd").copied());
            }
            self.boot.get_or_insert_with(BootRule::default).uki.push(uki);
        }
        self
    }

    /// As a text for people: the canonical form, with what each table is.
    #[must_use]
    pub fn explained(&self) -> String {
        text::annotated(self, &text::Notes::new())
    }
}
