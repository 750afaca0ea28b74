//! A policy from the evidence of a golden host.

use std::collections::{BTreeMap, BTreeSet};

use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    BootRule, Chain, CommandLineRule, Evidence, ImaRule, InitrdRule, KeyReference, KeyRule, PcrRule, Policy,
    PolicyName, Reference, Release, SbatRule, SecureBootRule, TpmRule, Uki, Violations,
    command_line::Texts,
    evidence::Measured,
    firmware_rule::Version,
    ima_rule::reference,
    judge,
    key_rule::authority_text,
    text::{Notes, annotated},
};
use crate::{
    PcrSet,
    event_log::{
        Handover, SbatLevel, SecureBoot, Signature, SignatureKind, UKI_PCR, UkiSection, uki_sections,
    },
    ima::Entry,
};

/// What was learned. The evidence that it was learned from meets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Learned {
    /// The policy.
    pub policy: Policy,
    /// The same as a text, with what each value is.
    pub text: String,
}

impl Learned {
    /// PCRs to pin by value unless told otherwise: what firmware loads beside itself, what GRUB and shim say, what is
    /// given to a kernel image beside it. Not those that change with settings, boot order and disks (1, 3, 5, 6), nor
    /// those that other rules are about.
    #[must_use]
    pub fn usual_pins() -> PcrSet {
        [2, 8, 13, 14].into_iter().collect()
    }
}

/// Learns what is proven of a golden host. PCRs of which the log does not tell enough are pinned by value, and so are
/// `pins`, as far as they are proven.
///
/// Read what was learned before it is enforced: a host that was tampered with teaches that as well.
#[must_use]
pub fn learn(name: &PolicyName, version: u32, evidence: &Evidence<'_>, pins: PcrSet) -> Learned {
    let mut student = Student {
        evidence,
        pins: pins.iter().collect(),
        notes: Notes::new(),
    };
    let mut policy = Policy {
        name: name.clone(),
        version,
        description: None,
        secure_boot: None,
        sbat: None,
        boot: None,
        command_line: None,
        initrd: None,
        firmware: student.firmware(),
        tpm: student.tpm(),
        pcrs: Vec::new(),
        ima: None,
    };
    policy.secure_boot = student.secure_boot();
    policy.sbat = student.sbat().filter(|_| policy.secure_boot.is_some());
    student.keep_or_pin(&mut policy, &[7], |policy| {
        policy.secure_boot = None;
        policy.sbat = None;
    });
    policy.boot = student.boot();
    student.keep_or_pin(&mut policy, &[4], |policy| policy.boot = None);
    policy.command_line = student.command_line();
    policy.initrd = student.initrd(&policy);
    student.keep_or_pin(&mut policy, &[9, 12], |policy| {
        policy.command_line = None;
        policy.initrd = None;
    });
    policy.ima = student.ima();
    student.keep_or_pin(&mut policy, &[], |policy| policy.ima = None);
    policy.pcrs = student.pcrs();
    if !policy.has_rule() {
        // A policy that asks for nothing would let everybody pass.
        student.pins.extend(0..PcrSet::COUNT);
        policy.pcrs = student.pcrs();
    }
    let text = annotated(&policy, &student.notes);
    Learned { policy, text }
}

struct Student<'a, 'b> {
    evidence: &'b Evidence<'a>,
    pins: BTreeSet<u8>,
    notes: Notes,
}

impl<'a, 'b> Student<'a, 'b> {
    /// A rule that the golden host itself does not meet teaches nothing: its PCRs are pinned instead.
    fn keep_or_pin(&mut self, policy: &mut Policy, pcrs: &[u8], forget: fn(&mut Policy)) {
        if !judge(policy, self.evidence).is_empty() {
            forget(policy);
            self.pins.extend(pcrs);
        }
    }

    /// The value of a PCR in each bank.
    fn values(&self, pcr: u8) -> BTreeSet<Reference> {
        let of_bank = |alg| Reference::new(alg, self.evidence.values().get(alg, pcr)?.as_bytes());
        self.evidence.algs().filter_map(of_bank).collect()
    }

    fn note_event(&mut self, event: &Measured<'_>) {
        if let Some(remark) = self.evidence.remark(event.index) {
            for digest in &event.digests {
                self.notes
                    .entry(digest.to_string())
                    .or_insert_with(|| remark.clone());
            }
        }
    }

    fn firmware(&self) -> Option<Vec<Release>> {
        let pcr0 = self.values(0);
        let release = Release {
            name: "as on the golden host".into(),
            pcr0,
        };
        (!release.pcr0.is_empty()).then(|| vec![release])
    }

    fn tpm(&self) -> Option<TpmRule> {
        let version = self.evidence.tpm_firmware()?;
        Some(TpmRule {
            at_least: Some(Version(version)),
            at_most: None,
        })
    }

    fn secure_boot(&mut self) -> Option<SecureBootRule> {
        let measurements = self.evidence.measurements(7)?;
        let Ok(state) = SecureBoot::of(measurements) else {
            self.pins.insert(7);
            return None;
        };
        let entries = [&state.pk, &state.kek, &state.db, &state.dbx]
            .into_iter()
            .flatten();
        for entry in entries.filter(|entry| entry.kind == SignatureKind::X509) {
            let subject = subject(entry.data);
            self.notes
                .extend(subject.map(|subject| (KeyReference::of(entry).to_string(), subject)));
        }
        for authority in &state.authorities {
            // Behind the GUID of its owner.
            let subject = authority.data.get(16..).and_then(subject);
            self.notes
                .extend(subject.map(|subject| (authority_text(authority), subject)));
        }
        let has_floor = self.sbat().is_some();
        let authorities = state.authorities.iter();
        let authorities = authorities.filter(|authority| !(authority.is_sbat_level && has_floor));
        let exactly = |keys: &[Signature<'_>]| {
            Some(KeyRule {
                exactly: Some(keys.iter().map(KeyReference::of).collect()),
                ..KeyRule::default()
            })
        };
        Some(SecureBootRule {
            enforced: state.clone().enforced().is_ok(),
            pk: exactly(&state.pk),
            kek: exactly(&state.kek),
            db: exactly(&state.db),
            // Firmware updates add to it.
            dbx: Some(KeyRule {
                at_least: Some(state.dbx.iter().map(KeyReference::of).collect()),
                ..KeyRule::default()
            }),
            authorities: Some(authorities.map(authority_text).collect()),
        })
    }

    /// The revocations that shim goes by; updates raise them.
    fn sbat(&self) -> Option<SbatRule> {
        let levels = SbatLevel::all(self.evidence.measurements(7)?).ok()?;
        let [level] = levels.as_slice() else {
            return None;
        };
        let generations = level.generations.iter();
        Some(SbatRule(
            generations
                .map(|(name, generation)| ((*name).into(), *generation))
                .collect(),
        ))
    }

    fn boot(&mut self) -> Option<BootRule> {
        let events = self.evidence.events(4)?;
        let Ok(handover) = Handover::of(self.evidence.measurements(4)?) else {
            self.pins.insert(4);
            return None;
        };
        events.iter().for_each(|event| self.note_event(event));
        let of = |indices: &[u32]| -> Vec<Reference> {
            let at = |index: &u32| events.iter().find(|event| event.index == *index);
            indices.iter().filter_map(at).filter_map(strongest).collect()
        };
        let images = of(&handover.images);
        let mut rule = BootRule {
            before: of(&handover.before),
            silent_end: !handover.has_ended,
            ..BootRule::default()
        };
        match self.uki(&images) {
            Some((loaders, uki)) => {
                rule.loaders = loaders;
                rule.uki.push(uki);
            }
            None => rule.chain.push(Chain {
                name: "as on the golden host".into(),
                images,
            }),
        }
        Some(rule)
    }

    fn sections(&self) -> Option<Vec<UkiSection<'b>>> {
        let sections = uki_sections(self.evidence.measurements(UKI_PCR)?).ok()??;
        Some(sections)
    }

    /// The digest of a section in the strongest bank.
    fn section(&self, section: &UkiSection<'_>) -> Option<Reference> {
        Reference::new(self.evidence.measurements(UKI_PCR)?.alg(), section.digest)
    }

    /// Loaders and kernel image, if PCR 11 holds sections. The log does not say which image is which: with Secure Boot
    /// off the stub starts the kernel inside as an image of its own, so that the last is the kernel.
    fn uki(&self, images: &[Reference]) -> Option<(Vec<Reference>, Uki)> {
        let sections = self.sections()?;
        let is_enforced = self
            .evidence
            .measurements(7)
            .and_then(|pcr| SecureBoot::of(pcr).ok())
            .is_some_and(|state| state.enforced().is_ok());
        let (images, kernel) = match images {
            [images @ .., kernel] if !is_enforced && !images.is_empty() => (images, Some(*kernel)),
            _ => (images, None),
        };
        let (image, loaders) = images.split_last()?;
        let cmdline = sections.iter().find(|section| section.name == ".cmdline");
        let texts = Texts::of_host(self.evidence);
        let command_line = cmdline
            .and_then(|section| self.section(section))
            .and_then(|digest| texts.of_section(&digest));
        let digest = |section: &UkiSection<'_>| Some((section.name.to_owned(), self.section(section)?));
        let uki = Uki {
            name: "as on the golden host".into(),
            image: *image,
            kernel,
            sections: sections.iter().filter_map(digest).collect(),
            command_line: command_line.map(str::to_owned),
        };
        Some((loaders.to_vec(), uki))
    }

    fn command_line(&self) -> Option<CommandLineRule> {
        let texts = Texts::of_host(self.evidence);
        let exact = CommandLineRule::proven(self.evidence, &texts);
        (!exact.is_empty()).then(|| CommandLineRule {
            exact,
            ..CommandLineRule::default()
        })
    }

    /// What is in PCR 9 beside the command line. The last event is the initial file system, as far as kernels go.
    fn initrd(&mut self, policy: &Policy) -> Option<InitrdRule> {
        let events = self.evidence.events(9)?;
        let texts = Texts::of(policy, self.evidence);
        let is_other = |event: &&Measured<'_>| !texts.is_load_options(event);
        let others: Vec<_> = events.iter().filter(is_other).collect();
        others.iter().for_each(|event| self.note_event(event));
        let mut rule = InitrdRule::default();
        let sections = self.sections();
        let embedded = sections
            .iter()
            .flatten()
            .find(|section| section.name == ".initrd");
        rule.digests
            .extend(embedded.and_then(|section| self.section(section)));
        let mut others = others.into_iter().filter_map(strongest).collect::<Vec<_>>();
        if embedded.is_none() {
            rule.digests.extend(others.pop());
        }
        rule.files = others
            .into_iter()
            .filter(|file| !rule.digests.contains(file))
            .collect();
        (!rule.digests.is_empty()).then_some(rule)
    }

    fn ima(&mut self) -> Option<ImaRule> {
        let list = self.evidence.ima()?;
        let mut allow = BTreeSet::new();
        for entry in list.entries().skip(1) {
            let digest = entry.file_digest().and_then(|digest| reference(&digest));
            if let Some(digest) = digest.filter(|_| !entry.is_violation()) {
                let path = String::from_utf8_lossy(entry.path().unwrap_or_default()).into_owned();
                self.notes.insert(digest.to_string(), path);
                allow.insert(digest);
            }
        }
        let has_violations = list.entries().any(|entry: Entry<'_>| entry.is_violation());
        Some(ImaRule {
            allow: Some(allow),
            violations: if has_violations {
                Violations::Accept
            } else {
                Violations::Refuse
            },
            ..ImaRule::default()
        })
    }

    /// The PCRs to pin, as far as they are proven, with what they were extended by.
    fn pcrs(&mut self) -> Vec<PcrRule> {
        let pins = std::mem::take(&mut self.pins);
        let mut rules = BTreeMap::new();
        for index in pins {
            let values = self.values(index);
            if values.is_empty() {
                continue;
            }
            let events = self.evidence.events(index).unwrap_or_default();
            events.iter().for_each(|event| self.note_event(event));
            let events = events.iter().filter_map(strongest).collect();
            rules.insert(
                index,
                PcrRule {
                    index,
                    values,
                    events,
                },
            );
        }
        rules.into_values().collect()
    }
}

fn strongest(event: &Measured<'_>) -> Option<Reference> {
    event.digests.first().copied()
}

/// Whom a certificate is of.
fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.subject().to_string())
}
