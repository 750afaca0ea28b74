//! Every code of a refusal: which checks of the list in `SECURITY.md` it is of, and that a test sees it.

use std::{collections::BTreeSet, fs, path::Path};

/// Each code, and the checks that it is of.
const CODES: &str = "\
ak_attributes | 17
ak_name_hash | 19
ak_of_other_host | 15, 22
ak_template | 18
ak_weak | 9, 10
attest_magic | 28
attest_type | 29
certification_missing | 25
certified_attributes | 25
certified_name | 26
credential_mismatch | 20, 21
ek_advisory | 16
ek_certificate_attributes | 5
ek_certificate_critical | 4
ek_certificate_malformed | 7, 8
ek_certificate_usage | 3
ek_chain_expired | 2
ek_chain_not_ca | 2
ek_chain_signature | 1
ek_chain_unknown | 1
ek_chain_weak | 9, 10
ek_crl_stale | 11
ek_issuer | 15
ek_manufacturer | 6
ek_mismatch | 13
ek_of_other_host | 15
ek_revoked | 11
ek_roca | 9
ek_template | 14
ek_weak | 10
extra_data | 31, 32, 33
firmware_older | 43
ima_boot_aggregate | 57
ima_continuity | 58
ima_limit | 45
ima_malformed | 45
ima_missing | 56
ima_pcr | 56
ima_template_digest | 57
ima_trailing | 56
ima_unexplained | 56
ima_violation | 57
ima_weak_hash | 37, 57
log_bank | 54
log_banks | 54
log_boot_loader | 53
log_event_data | 48
log_handover | 52
log_limit | 45
log_malformed | 45
log_mismatch | 46
log_missing | 46
log_sections | 53
log_separator | 49
log_unexplained | 46
malformed | 28
pcr_bank | 37
pcr_digest | 36
pcr_dynamic_launch | 55
pcr_selection | 34
pcr_uninitialized | 38
platform_certificate_attributes | 61
platform_certificate_critical | 61
platform_certificate_delta | 61
platform_certificate_holder | 61
platform_certificate_malformed | 61
platform_chain_expired | 61
platform_chain_not_ca | 61
platform_chain_signature | 61
platform_chain_unknown | 61
platform_chain_weak | 61
qualified_signer | 30, 44
secure_boot_keys | 51
secure_boot_off | 50
secure_boot_sbat | 51
secure_boot_variable | 50
signature_invalid | 24
signature_scheme | 23
too_large | 45
tpm_cleared | 39, 40
tpm_resumed | 42
unexpected_message |";

/// Checks without a code: there is nothing to refuse, or nobody makes them. `SECURITY.md` says why.
const WITHOUT_CODE: &[u8] = &[12, 27, 35, 41, 47, 59, 60, 62, 63, 64];

/// A variant of `Reject`, as its source has it.
struct Variant {
    name: String,
    doc: String,
    code: String,
}

/// Where refusals are tested.
const TESTS: [&str; 6] = [
    "tests/it",
    "src",
    "src/ek",
    "src/event_log/tests",
    "src/ima",
    "../plugins/node-tpm/tests/it",
];

#[expect(clippy::disallowed_methods, reason = "only the crate itself has no files")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn variants() -> Vec<Variant> {
    let source = read(&here().join("src/reject.rs"));
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut variants = Vec::new();
    let codes = lines.iter().skip_while(|line| !line.contains("fn code("));
    for line in codes {
        let Some((name, code)) = line
            .strip_prefix("Self::")
            .and_then(|arm| arm.split_once(" => \""))
        else {
            continue;
        };
        let name = name.split('(').next().unwrap();
        let at = lines
            .iter()
            .position(|line| line.trim_end_matches(',').split('(').next() == Some(name))
            .unwrap_or_else(|| panic!("no variant {name}"));
        let doc = lines[..at].iter().rev().find(|line| line.starts_with("/// ("));
        let code = code.trim_end_matches("\",");
        variants.push(Variant {
            name: name.into(),
            doc: doc.unwrap().trim_start_matches("/// ").into(),
            code: code.into(),
        });
    }
    variants
}

/// Reads `(31–33, 40)`; `(—)` is of no check.
fn numbers(doc: &str) -> BTreeSet<u8> {
    let list = doc.strip_prefix('(').unwrap().split(')').next().unwrap();
    let range = |part: &str| {
        let (from, to) = part.split_once('–').unwrap_or((part, part));
        from.parse().unwrap()..=to.parse::<u8>().unwrap()
    };
    list.split(", ")
        .filter(|part| *part != "—")
        .flat_map(range)
        .collect()
}

/// The row of a check in `SECURITY.md`.
fn row(security: &str, number: u8) -> &str {
    let start = format!("| {number} |");
    let mut rows = security.lines().filter(|line| line.starts_with(&start));
    let row = rows.next().unwrap_or_else(|| panic!("no row for check {number}"));
    assert_eq!(rows.next(), None, "one row for check {number}");
    row
}

#[test]
fn each_code_is_of_the_checks_that_its_doc_names() {
    let line = |variant: &Variant| {
        let numbers: Vec<_> = numbers(&variant.doc).iter().map(u8::to_string).collect();
        format!("{} | {}", variant.code, numbers.join(", "))
            .trim_end()
            .to_owned()
    };
    let lines: Vec<_> = variants().iter().map(line).collect();
    assert_eq!(lines.join("\n"), CODES);
}

#[test]
fn each_doc_names_the_attack() {
    for Variant { name, doc, .. } in variants()
        .iter()
        .filter(|variant| !numbers(&variant.doc).is_empty())
    {
        assert!(doc.contains(": "), "{name}: {doc}");
    }
}

#[test]
fn each_check_has_a_row_with_its_codes() {
    let security = read(&here().join("../SECURITY.md"));
    let variants = variants();
    let mut without = Vec::new();
    for number in 1..=64 {
        let row = row(&security, number);
        let of: Vec<_> = variants
            .iter()
            .filter(|variant| numbers(&variant.doc).contains(&number))
            .collect();
        for Variant { code, .. } in &of {
            assert!(row.contains(&format!("`{code}`")), "row {number} lacks `{code}`");
        }
        if of.is_empty() {
            without.push(number);
        }
    }
    assert_eq!(without, WITHOUT_CODE);
}

/// The codes that the row of a check names, in its fourth column.
fn codes_of(row: &str) -> impl Iterator<Item = &str> {
    let column = row.split('|').nth(4).unwrap_or_default();
    column
        .split(',')
        .map(|code| code.trim_matches([' ', '`']))
        .filter(|code| !code.is_empty())
}

#[test]
fn security_names_all_codes_and_no_others() {
    let security = read(&here().join("../SECURITY.md"));
    let variants = variants();
    for Variant { code, .. } in &variants {
        assert!(
            security.contains(&format!("`{code}`")),
            "`{code}` is not explained"
        );
    }
    for number in 1..=64 {
        for code in codes_of(row(&security, number)) {
            let is_one = variants.iter().any(|variant| variant.code == code);
            assert!(is_one, "row {number} names `{code}`, which nothing refuses with");
        }
    }
}

#[test]
fn each_difference_from_a_policy_is_explained_and_has_a_test() {
    let security = read(&here().join("../SECURITY.md"));
    let source = read(&here().join("src/policy/difference.rs"));
    let codes: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(_, code)| code.trim_end_matches("\","))
        .collect();
    assert!(codes.len() > 19, "{codes:?}");
    let folders = ["tests/it", "tests/it/policies"].map(|folder| sources(&here().join(folder)));
    let tests: String = folders.iter().flatten().map(|path| read(path)).collect();
    for code in codes {
        assert!(
            security.contains(&format!("`{code}`")),
            "`{code}` is not explained"
        );
        // Perhaps with what it is about behind it.
        let is_tested = [format!("\"{code}\""), format!("\"{code} ")]
            .iter()
            .any(|text| tests.contains(text));
        assert!(is_tested, "no test differs with `{code}`");
    }
}

/// The tests in these folders, and those beside the code there.
fn tests_in(folders: &[&str]) -> String {
    let mut tests = String::new();
    for folder in folders {
        for path in sources(&here().join(folder)) {
            let source = read(&path);
            let is_test = folder.contains("tests") || path.ends_with("tests.rs");
            let tested = source.split_once("#[cfg(test)]").map(|(_, tests)| tests);
            tests.push_str(if is_test {
                &source
            } else {
                tested.unwrap_or_default()
            });
        }
    }
    tests
}

#[test]
fn each_code_has_a_test() {
    let tests = tests_in(&TESTS);
    for Variant { name, code, .. } in variants() {
        let variant = format!("Reject::{name}");
        let by_name = tests
            .split(&variant)
            .skip(1)
            .map(|after| after.chars().next())
            .any(|next| next.is_none_or(|letter| !letter.is_alphanumeric()));
        let by_code = tests.contains(&format!("\"{code}\""));
        assert!(by_name || by_code, "no test refuses with `{code}`");
    }
}

/// Refusals that are none of a check: of messages and hosts.
#[test]
fn each_code_of_a_message_or_host_has_a_test() {
    let folders = [
        "../plugins/node-tpm/tests/it",
        "../server/src/api",
        "../swtpm-tests/tests/it/world",
    ];
    let tests = tests_in(&folders);
    let mut codes = BTreeSet::new();
    for folder in [
        "../plugins/node-tpm/src",
        "../plugins/node-tpm/src/server",
        "../server/src/api",
    ] {
        for path in sources(&here().join(folder)) {
            let source = read(&path);
            let code = source.split("#[cfg(test)]").next().unwrap();
            for call in ["Refusal::invalid(\"", "Refusal::denied(\""] {
                let calls = code.split(call).skip(1);
                codes.extend(calls.map(|after| after.split('"').next().unwrap().to_owned()));
            }
        }
    }
    assert!(
        codes.contains("not_bound") && codes.contains("too_many_pending"),
        "{codes:?}"
    );
    for code in codes {
        let is_seen = tests.contains(&format!("\"{code}\"")) || tests.contains(&format!("({code})"));
        assert!(is_seen, "no test refuses with `{code}`");
    }
}

/// Sources of a folder, but for this one, whose table names every code.
#[expect(clippy::disallowed_methods, reason = "only the crate itself has no files")]
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| path.file_name().is_some_and(|name| name != "checks.rs"))
        .collect()
}
