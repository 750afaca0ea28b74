//! A policy as a text: with comments for people, or in the one form that is hashed and signed.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use super::{
    BootRule, CommandLineRule, ImaRule, InitrdRule, KeyRule, PcrRule, Policy, Release, SbatRule,
    SecureBootRule, TpmRule, Uki, Violations,
};

/// What is said of values, by their text.
pub(super) type Notes = BTreeMap<String, String>;

impl Policy {
    /// The one form of this policy that is hashed and signed: TOML without comments, keys in a fixed order, sets
    /// sorted. It parses to the same policy.
    #[must_use]
    pub fn canonical(&self) -> String {
        Writer::new(None).policy(self)
    }
}

/// The policy with what is said of its values.
pub(super) fn annotated(policy: &Policy, notes: &Notes) -> String {
    Writer::new(Some(notes)).policy(policy)
}

/// The table of a kernel image.
pub(super) fn kernel_image(uki: &Uki) -> String {
    let mut writer = Writer::new(None);
    writer.uki(uki);
    writer.text
}

struct Writer<'a> {
    text: String,
    notes: Option<&'a Notes>,
}

impl<'a> Writer<'a> {
    const fn new(notes: Option<&'a Notes>) -> Self {
        Self {
            text: String::new(),
            notes,
        }
    }

    fn policy(mut self, policy: &Policy) -> String {
        self.note("Reference values. What a value is stands behind it, as the log says: read it before you enforce it.");
        self.plain("format", Policy::FORMAT);
        self.string("name", policy.name.as_str());
        self.plain("version", policy.version);
        self.optional("description", policy.description.as_deref());
        if let Some(rule) = &policy.secure_boot {
            self.secure_boot(rule);
        }
        if let Some(rule) = &policy.sbat {
            self.sbat(rule);
        }
        if let Some(rule) = &policy.boot {
            self.boot(rule);
        }
        if let Some(rule) = &policy.command_line {
            self.command_line(rule);
        }
        if let Some(rule) = &policy.initrd {
            self.initrd(rule);
        }
        if let Some(releases) = &policy.firmware {
            self.firmware(releases);
        }
        if let Some(rule) = &policy.tpm {
            self.tpm(rule);
        }
        policy.pcrs.iter().for_each(|rule| self.pcr(rule));
        if let Some(rule) = &policy.ima {
            self.ima(rule);
        }
        self.text
    }

    fn secure_boot(&mut self, rule: &SecureBootRule) {
        self.table(
            "[secure_boot]",
            "Secure Boot: on in user or deployed mode if `enforced`.",
        );
        self.plain("enforced", rule.enforced);
        if let Some(authorities) = &rule.authorities {
            self.list("authorities", authorities);
        }
        for (name, keys) in rule.keys() {
            self.keys(name, keys);
        }
    }

    fn keys(&mut self, name: &str, rule: &KeyRule) {
        self.table(
            &format!("[secure_boot.{}]", name.to_ascii_lowercase()),
            "Keys: `exactly` these, or `at_least` and `at_most`.",
        );
        let lists = [
            ("exactly", &rule.exactly),
            ("at_least", &rule.at_least),
            ("at_most", &rule.at_most),
        ];
        for (key, values) in lists {
            if let Some(values) = values {
                self.list(key, values);
            }
        }
    }

    fn sbat(&mut self, rule: &SbatRule) {
        self.table(
            "[sbat]",
            "Revocations that shim has to go by: of each component, the oldest generation that may start.",
        );
        for (name, generation) in &rule.0 {
            self.plain(&key(name), generation);
        }
    }

    fn boot(&mut self, rule: &BootRule) {
        self.table("[boot]", "What may be started, by Authenticode digest.");
        self.list("before", &rule.before);
        // Left out where it says nothing, so that older policies keep their hash.
        if rule.silent_end {
            self.plain("silent_end", rule.silent_end);
        }
        self.list("loaders", &rule.loaders);
        for chain in &rule.chain {
            self.table("[[boot.chain]]", "Images that start one another, in this order.");
            self.string("name", &chain.name);
            self.list("images", &chain.images);
        }
        rule.uki.iter().for_each(|uki| self.uki(uki));
    }

    fn uki(&mut self, uki: &Uki) {
        self.table("[[boot.uki]]", "A unified kernel image.");
        self.string("name", &uki.name);
        self.optional("command_line", uki.command_line.as_deref());
        self.string("image", &uki.image.to_string());
        if let Some(kernel) = &uki.kernel {
            self.string("kernel", &kernel.to_string());
        }
        self.begin("sections", uki.sections.is_empty());
        for (name, digest) in &uki.sections {
            let pair = format!("[{}, {}]", literal(name), literal(&digest.to_string()));
            self.item(&pair, &digest.to_string());
        }
        self.end(uki.sections.is_empty());
    }

    fn command_line(&mut self, rule: &CommandLineRule) {
        self.table(
            "[command_line]",
            "Whole command lines, or words that one may consist of.",
        );
        self.list("exact", &rule.exact);
        self.list("allow", &rule.allow);
        self.list("require", &rule.require);
    }

    fn initrd(&mut self, rule: &InitrdRule) {
        self.table(
            "[initrd]",
            "Initial file systems, and whatever else may be in PCR 9.",
        );
        self.list("digests", &rule.digests);
        self.list("files", &rule.files);
    }

    fn firmware(&mut self, releases: &[Release]) {
        if releases.is_empty() {
            // There is no empty array of tables but this one, which has to stand before any table.
            self.text.insert_str(0, "firmware = []\n");
        }
        for release in releases {
            self.table("[[firmware]]", "A release of the machine's firmware.");
            self.string("name", &release.name);
            self.list("pcr0", &release.pcr0);
        }
    }

    fn tpm(&mut self, rule: &TpmRule) {
        self.table("[tpm]", "Firmware of the TPM.");
        for (key, version) in [("at_least", rule.at_least), ("at_most", rule.at_most)] {
            if let Some(version) = version {
                self.string(key, &version.to_string());
            }
        }
    }

    fn pcr(&mut self, rule: &PcrRule) {
        self.table(
            "[[pcr]]",
            "A PCR by value. `events` only serve to say which one differs.",
        );
        self.plain("index", rule.index);
        self.list("values", &rule.values);
        self.list("events", &rule.events);
    }

    fn ima(&mut self, rule: &ImaRule) {
        self.table("[ima]", "Files that the kernel may measure.");
        let violations = match rule.violations {
            Violations::Accept => "accept",
            Violations::Refuse => "refuse",
        };
        self.string("violations", violations);
        self.list("deny", &rule.deny);
        if let Some(allow) = &rule.allow {
            self.list("allow", allow);
        }
        if let Some(keys) = &rule.keys {
            let keys: Vec<_> = keys.iter().map(|key| hex::encode(key.as_der())).collect();
            self.list("keys", &keys);
        }
    }

    fn table(&mut self, header: &str, note: &str) {
        self.text.push('\n');
        self.note(note);
        self.line(header);
    }

    fn list<T: ToString>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        let mut values = values.into_iter().map(|value| value.to_string()).peekable();
        let is_empty = values.peek().is_none();
        self.begin(key, is_empty);
        for value in values {
            self.item(&literal(&value), &value);
        }
        self.end(is_empty);
    }

    fn begin(&mut self, key: &str, is_empty: bool) {
        self.line(&if is_empty {
            format!("{key} = []")
        } else {
            format!("{key} = [")
        });
    }

    /// An item of a list, and what is said of `value`.
    fn item(&mut self, item: &str, value: &str) {
        match self.notes.and_then(|notes| notes.get(value)) {
            Some(note) => self.line(&format!("    {item}, # {}", one_line(note))),
            None => self.line(&format!("    {item},")),
        }
    }

    fn end(&mut self, is_empty: bool) {
        if !is_empty {
            self.line("]");
        }
    }

    fn string(&mut self, key: &str, value: &str) {
        match self.notes.and_then(|notes| notes.get(value)) {
            Some(note) => self.line(&format!("{key} = {} # {}", literal(value), one_line(note))),
            None => self.line(&format!("{key} = {}", literal(value))),
        }
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn note(&mut self, note: &str) {
        if self.notes.is_some() {
            self.line(&format!("# {note}"));
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A key of TOML: bare where it can be.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.into()
    } else {
        literal(name)
    }
}

/// A basic string of TOML: all that is not plain is escaped.
fn literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for char in text.chars() {
        // Writing into a string does not fail.
        let _written = match char {
            '"' | '\\' => write!(literal, "\\{char}"),
            char if char.is_control() => write!(literal, "\\u{:04X}", u32::from(char)),
            char => write!(literal, "{char}"),
        };
    }
    literal.push('"');
    literal
}

fn one_line(note: &str) -> String {
    note.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}
