//! A policy as sentences, one for each value.

use std::fmt::Display;

use super::{
    BootRule, CommandLineRule, ImaRule, InitrdRule, KeyRule, PcrRule, Policy, SbatRule, SecureBootRule,
    TpmRule, Violations, difference::quoted,
};

/// What `policy` says, a sentence for each value, in the order of the rules.
#[must_use]
pub fn statements(policy: &Policy) -> Vec<String> {
    let mut said = vec![
        format!("the policy is called {}", policy.name),
        format!("its version is {}", policy.version),
    ];
    said.extend(
        policy
            .description
            .iter()
            .map(|text| format!("it is for {}", quoted(text))),
    );
    if let Some(rule) = &policy.secure_boot {
        secure_boot(rule, &mut said);
    }
    if let Some(rule) = &policy.sbat {
        sbat(rule, &mut said);
    }
    if let Some(rule) = &policy.boot {
        boot(rule, &mut said);
    }
    if let Some(rule) = &policy.command_line {
        command_line(rule, &mut said);
    }
    if let Some(rule) = &policy.initrd {
        initrd(rule, &mut said);
    }
    if let Some(releases) = &policy.firmware {
        said.push("firmware has to be of a known release".into());
        for release in releases {
            let what = format!("firmware `{}` leaves in PCR 0", release.name);
            each(&mut said, &what, &release.pcr0);
        }
    }
    if let Some(rule) = &policy.tpm {
        tpm(rule, &mut said);
    }
    policy.pcrs.iter().for_each(|rule| pcr(rule, &mut said));
    if let Some(rule) = &policy.ima {
        ima(rule, &mut said);
    }
    said
}

fn each<T: Display>(said: &mut Vec<String>, what: &str, values: impl IntoIterator<Item = T>) {
    said.extend(values.into_iter().map(|value| format!("{what} {value}")));
}

fn secure_boot(rule: &SecureBootRule, said: &mut Vec<String>) {
    said.push(match rule.enforced {
        true => "Secure Boot has to be enforced".into(),
        false => "Secure Boot may be off".into(),
    });
    for (name, keys) in rule.keys() {
        keys_of(name, keys, said);
    }
    if let Some(authorities) = &rule.authorities {
        said.push("images may only be verified by what is known".into());
        each(said, "images may be verified by", authorities);
    }
}

fn sbat(rule: &SbatRule, said: &mut Vec<String>) {
    said.push("shim has to measure an SBAT level".into());
    let least = rule
        .0
        .iter()
        .map(|(name, generation)| format!("{} {generation}", quoted(name)));
    each(said, "the SBAT level has to be at least", least);
}

fn keys_of(name: &str, rule: &KeyRule, said: &mut Vec<String>) {
    if rule.exactly.is_some() || rule.at_most.is_some() {
        said.push(format!("{name} may hold no unknown key"));
    }
    each(
        said,
        &format!("{name} has to hold"),
        rule.exactly.iter().chain(&rule.at_least).flatten(),
    );
    each(said, &format!("{name} may hold"), rule.at_most.iter().flatten());
}

fn boot(rule: &BootRule, said: &mut Vec<String>) {
    said.push("only known images may be started".into());
    each(said, "firmware may start by itself image", &rule.before);
    if rule.silent_end {
        said.push("firmware need not say that it ended".into());
    }
    each(said, "before a kernel image may be started loader", &rule.loaders);
    for chain in &rule.chain {
        let images: Vec<_> = chain.images.iter().map(ToString::to_string).collect();
        said.push(format!(
            "chain `{}` may be started: {}",
            chain.name,
            images.join(", then ")
        ));
    }
    for uki in &rule.uki {
        said.push(format!(
            "kernel image `{}` may be started: {}",
            uki.name, uki.image
        ));
        let command_line = uki.command_line.iter().map(|text| quoted(text));
        each(
            said,
            &format!("kernel image `{}` has command line", uki.name),
            command_line,
        );
        each(
            said,
            &format!("kernel image `{}` starts kernel", uki.name),
            uki.kernel,
        );
        let sections = uki
            .sections
            .iter()
            .map(|(section, digest)| format!("`{section}` {digest}"));
        each(
            said,
            &format!("kernel image `{}` has section", uki.name),
            sections,
        );
    }
}

fn command_line(rule: &CommandLineRule, said: &mut Vec<String>) {
    said.push("the command line has to be known".into());
    each(
        said,
        "the command line may be",
        rule.exact.iter().map(|text| quoted(text)),
    );
    each(
        said,
        "the command line may have word",
        rule.allow.iter().map(|text| quoted(text)),
    );
    each(
        said,
        "the command line has to have word",
        rule.require.iter().map(|text| quoted(text)),
    );
}

fn initrd(rule: &InitrdRule, said: &mut Vec<String>) {
    said.push("the initial file system has to be known".into());
    each(said, "the initial file system may be", &rule.digests);
    each(said, "PCR 9 may hold file", &rule.files);
}

fn tpm(rule: &TpmRule, said: &mut Vec<String>) {
    each(said, "firmware of the TPM has to be at least", rule.at_least);
    each(said, "firmware of the TPM has to be at most", rule.at_most);
}

/// Events decide nothing, so nothing is said of them.
fn pcr(rule: &PcrRule, said: &mut Vec<String>) {
    said.push(format!("PCR {} has to have a known value", rule.index));
    each(said, &format!("PCR {} may be", rule.index), &rule.values);
}

fn ima(rule: &ImaRule, said: &mut Vec<String>) {
    said.push("the kernel has to measure".into());
    if rule.allow.is_some() || rule.keys.is_some() {
        said.push("files have to be known or signed".into());
    }
    said.push(match rule.violations {
        Violations::Accept => "files may change while they are measured".into(),
        Violations::Refuse => "files must not change while they are measured".into(),
    });
    each(said, "a file may be", rule.allow.iter().flatten());
    each(said, "a file must not be", &rule.deny);
    each(
        said,
        "files may be signed by",
        rule.keys.iter().flatten().map(|key| hex::encode(key.as_der())),
    );
}
