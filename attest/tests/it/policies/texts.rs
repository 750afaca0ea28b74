//! The text form: what is refused, what is hashed, and what an operator reads.

use attest::policy::{Change, Policy, PolicyError, diff, statements};
use proptest::prelude::*;

use super::{CMDLINE, boot, learned, policy};

const HEAD: &str = "format = 1\nname = \"test\"\nversion = 1\n";
const DIGEST: &str = "1173641e86fbc62569e32a14e7fe6f98b8cf2ac3b6c29272d99bddd2654f61e1";

fn refused(text: &str) -> PolicyError {
    match Policy::parse(text.as_bytes()) {
        Err(error) => error,
        Ok(policy) => panic!("accepted: {policy:?}"),
    }
}

/// The message of what TOML refuses.
fn syntax(text: &str) -> String {
    match refused(text) {
        PolicyError::Syntax(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_what_it_does_not_understand() {
    let check = |text: &str, expected: &str| {
        let message = syntax(&format!("{HEAD}{text}"));
        assert!(message.contains(expected), "{text}: {message}");
    };
    check("colour = 1", "unknown field `colour`");
    check(
        "[secure_boot]\nenforce = true",
        "unknown field `enforce`, expected one of `enforced`",
    );
    check("[secure_boot]", "missing field `enforced`");
    check(
        "[secure_boot]\nenforced = true\n[secure_boot.db]\nexact = []",
        "unknown field `exact`",
    );
    check("[[pcr]]\nindex = 300\nvalues = []", "invalid value");
    check("[[pcr]]\nindex = 1", "missing field `values`");
    check(
        "[[pcr]]\nindex = 1\nvalues = [\"00\"]",
        "a digest is 64, 96 or 128 hex digits",
    );
    check(
        "[[pcr]]\nindex = 1\nvalues = [\"zz\"]",
        "a digest is 64, 96 or 128 hex digits",
    );
    check(
        &format!("[secure_boot]\nenforced = true\n[secure_boot.db]\nexactly = [\"{DIGEST}\"]"),
        "x509:HEX",
    );
    check("[tpm]\nat_least = \"7.2\"", "up to 16 hex digits");
    check("[tpm]\nat_least = \"+7\"", "up to 16 hex digits");
    check("[sbat]\nshim = -1", "invalid value");
    check("[sbat]\nshim = \"4\"", "invalid type");
    check("[ima]\nkeys = [\"00\"]", "DER SubjectPublicKeyInfo");
    check("[ima]\nviolations = \"maybe\"", "unknown variant `maybe`");
    let no_name = syntax("format = 1\nname = \"Test\"\nversion = 1\n[tpm]");
    assert!(no_name.contains("a policy's name is"), "{no_name}");
}

#[test]
fn refuses_what_makes_no_sense() {
    assert!(matches!(refused(HEAD), PolicyError::Empty));
    assert!(
        matches!(refused("format = 2\nnew = 1"), PolicyError::Format(2)),
        "also if it has other keys"
    );
    assert!(matches!(
        Policy::parse(&vec![b' '; Policy::MAX_LEN + 1]),
        Err(PolicyError::TooLong)
    ));
    assert!(matches!(Policy::parse(&[0xff]), Err(PolicyError::Utf8)));
    let pcrs = |indices: [u8; 2]| {
        let rules = indices.map(|index| format!("[[pcr]]\nindex = {index}\nvalues = []\n"));
        refused(&format!("{HEAD}{}", rules.concat()))
    };
    assert!(matches!(pcrs([4, 4]), PolicyError::Pcr(4)));
    assert!(matches!(pcrs([4, 24]), PolicyError::Pcr(24)));
    let keys = format!("{HEAD}[secure_boot]\nenforced = true\n[secure_boot.db]\nexactly = []\nat_most = []");
    assert!(matches!(refused(&keys), PolicyError::Keys("db")));
    let uki = format!(
        "{HEAD}[[boot.uki]]\nname = 'a'\nimage = '{DIGEST}'\ncommand_line = 'quiet'\nsections = [['.cmdline', '{DIGEST}']]"
    );
    assert!(matches!(refused(&uki), PolicyError::CommandLine(name) if name == "a"));
}

#[test]
fn comments_and_order_do_not_count() {
    let one = policy("[tpm]\nat_least = '7'\n[command_line]\nexact = ['b', 'a']");
    let two = policy("# Why.\n[command_line]\nexact = [\"a\", \"b\",] # both\n[tpm]\nat_least = '0007'");
    assert_eq!(one.canonical(), two.canonical());
    assert_eq!(one.generation_id(), two.generation_id());
    assert_eq!(
        one.canonical(),
        "format = 1\nname = \"test\"\nversion = 1\n\n[command_line]\nexact = [\n    \"a\",\n    \"b\",\n]\nallow = []\n\
         require = []\n\n[tpm]\nat_least = \"0000000000000007\"\n"
    );
    let other = policy("[tpm]\nat_least = '8'\n[command_line]\nexact = ['b', 'a']");
    assert_ne!(one.generation_id(), other.generation_id());
}

/// The form must never change: identifiers and signatures rest on it.
#[test]
fn identifiers_stay_the_same() {
    let id = learned(&boot("vm-sb-56c")).policy.generation_id().to_string();
    assert_eq!(
        id,
        "21f6573852d6784aebd2d22c9b237f2140171a53bd5b9a3afb057188fe0e43a0"
    );
}

#[test]
fn each_policy_can_be_written() {
    for text in [
        "firmware = []",
        "[boot]",
        "[initrd]",
        "[ima]",
        "[ima]\nallow = []\nkeys = []\nviolations = 'accept'",
        "[secure_boot]\nenforced = false\nauthorities = []\n[secure_boot.dbx]\n[secure_boot.db]\nat_least = []\nat_most = []",
        "description = \"a \\\"quoted\\\" \\\\ \\u007F \\u0085 ä\"\n[tpm]",
    ] {
        let parsed = policy(text);
        assert_eq!(
            Policy::parse(parsed.canonical().as_bytes()).unwrap(),
            parsed,
            "{text}"
        );
        assert_eq!(
            Policy::parse(parsed.explained().as_bytes()).unwrap(),
            parsed,
            "{text}"
        );
    }
}

/// The annotated example has every key of the text form.
#[test]
fn the_example_is_a_policy() {
    let text = include_str!("../../../../deploy/policy.toml");
    let example = Policy::parse(text.as_bytes()).unwrap();
    let keys = |text: &str| -> std::collections::BTreeSet<String> {
        let keys = text
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, _)| key);
        keys.filter(|key| !key.contains(['#', ' ']))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(keys(&example.canonical()), keys(text), "no key is left out");
}

#[test]
fn says_what_each_value_is() {
    let text = learned(&boot("vm-sb-56c").with_command_line(CMDLINE)).text;
    for expected in [
        "\"581ace47a839",
        "# event 24, EV_EFI_BOOT_SERVICES_APPLICATION: ",
        "EV_EVENT_TAG: tag 0x8f3b22ec Linux initrd",
        &format!("command_line = \"{CMDLINE}\""),
        "# CN=",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn tells_what_changes() {
    let old = learned(&boot("vm-sb-56c").with_command_line(CMDLINE)).policy;
    assert_eq!(diff(&old, &old), []);
    let mut new = old.clone();
    new.version = 2;
    new.secure_boot = None;
    new.command_line.as_mut().unwrap().exact = ["quiet".to_owned()].into();
    let changes: Vec<_> = diff(&old, &new).iter().map(Change::to_string).collect();
    for expected in [
        "no longer: its version is 1",
        "no longer: Secure Boot has to be enforced",
        &format!("no longer: the command line may be `{CMDLINE}`"),
        "new: its version is 2",
        "new: the command line may be `quiet`",
    ] {
        assert!(
            changes.iter().any(|change| change == expected),
            "{expected} in {changes:#?}"
        );
    }
    assert!(
        !changes.iter().any(|change| change.contains("kernel image")),
        "{changes:#?}"
    );
    assert_eq!(diff(&new, &old).len(), changes.len());
}

/// Two policies that say the same are the same, but for the events that only name differences.
#[test]
fn statements_leave_nothing_out() {
    let hosts = [
        "vm-sb-56c",
        "vm-nosb-56c",
        "vm-sdboot-type1",
        "vm-mem512",
        "vm-sb-56c-cmd2",
    ];
    let policies: Vec<_> = hosts.map(|host| learned(&boot(host)).policy).into();
    for (one, other) in policies
        .iter()
        .flat_map(|one| policies.iter().map(move |other| (one, other)))
    {
        assert_eq!(one == other, statements(one) == statements(other));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_can_be_written(description in any::<String>(), word in any::<String>()) {
        let mut policy = policy("[command_line]");
        policy.description = Some(description);
        policy.command_line.as_mut().unwrap().exact.insert(word);
        prop_assert_eq!(Policy::parse(policy.canonical().as_bytes()).unwrap(), policy);
    }
}
