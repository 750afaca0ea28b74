//! What boot loaders measure by its text.

use super::*;

const TAG: EventKind = EventKind(0x06);

/// The texts, as `word text`, or the refusal.
fn texts(log: &Builder) -> Result<Vec<String>, Reject> {
    let log = log.parse().unwrap();
    let measurements = Measurements::verify(log, HashAlg::Sha256, [8, 12].into_iter().collect()).unwrap();
    let texts = boot_texts(&measurements)?;
    Ok(texts
        .iter()
        .map(|text| format!("{} {}", text.claimed, text.text.to_text()))
        .collect())
}

fn check(log: &Builder, expected: Result<&[&str], Reject>) {
    let expected = expected.map(|texts| texts.iter().map(ToString::to_string).collect());
    assert_eq!(texts(log), expected);
}

fn grub(log: Builder, word: &str, text: &str) -> Builder {
    let data = format!("{word}: {text}\0");
    log.event(8, IPL, text.as_bytes(), data.as_bytes())
}

fn booted() -> Builder {
    let log = grub(Builder::agile(SHA256), "grub_cmd", "linux /vmlinuz ro");
    grub(log, "kernel_cmdline", "/vmlinuz ro")
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn texts_of_grub_are_proven_by_their_digests() {
    check(
        &booted(),
        Ok(&["grub_cmd linux /vmlinuz ro", "kernel_cmdline /vmlinuz ro"]),
    );
    let multiboot = grub(Builder::agile(SHA256), "module_cmdline", "/xen.gz");
    check(&multiboot, Ok(&["module_cmdline /xen.gz"]));
    // A colon in the text is the text's.
    let colon = grub(Builder::agile(SHA256), "grub_cmd", "menuentry a: b");
    check(&colon, Ok(&["grub_cmd menuentry a: b"]));
}

#[test]
fn texts_of_grub_are_read_where_its_words_have_no_colon() {
    let command = b"linux /vmlinuz ro\0";
    let log = Builder::agile(SHA256)
        .event(8, IPL, command, &[&b"grub_cmd "[..], command].concat())
        .event(8, IPL, b"/vmlinuz ro", b"grub_kernel_cmdline /vmlinuz ro\0");
    let expected = ["grub_cmd linux /vmlinuz ro", "kernel_cmdline /vmlinuz ro"];
    check(&log, Ok(&expected));
}

#[test]
fn what_grub_would_not_measure_is_refused_among_its_texts() {
    let refused = Err(Reject::LogBootLoader(3));
    check(&grub(booted(), "own_cmd", "x"), refused);
    check(&booted().honest(8, IPL, b"x"), refused);
    check(
        &booted().event(8, IPL, b"other", b"kernel_cmdline: /vmlinuz\0"),
        refused,
    );
    check(&booted().event(8, IPL, b"hidden", b""), refused);
    // The type does not count.
    let relabelled = booted().event(8, TAG, b"/vmlinuz", b"kernel_cmdline: /vmlinuz\0");
    assert_eq!(texts(&relabelled).unwrap().len(), 3);
}

#[test]
fn pcrs_of_other_loaders_have_no_texts() {
    let none: &[&str] = &[];
    check(&Builder::agile(SHA256), Ok(none));
    check(
        &Builder::agile(SHA256).event(8, IPL, b"x", &utf16("initrd=x\0")),
        Ok(none),
    );
    check(
        &Builder::agile(SHA256).honest(12, TAG, &[1, 0, 1, 0x40, 0, 0, 0, 0]),
        Ok(none),
    );
}

#[test]
fn what_is_passed_on_to_a_kernel_is_a_text_in_utf_16() {
    let log = || Builder::agile(SHA256).honest(12, IPL, &utf16("root=/dev/sda1 ro\0"));
    check(&log(), Ok(&["load_options root=/dev/sda1 ro"]));
    let refused = Err(Reject::LogBootLoader(2));
    check(&log().honest(12, IPL, b"x"), refused);
    check(&log().honest(12, IPL, &utf16("no end")), refused);
    check(&log().event(12, IPL, b"hidden", &utf16("quiet\0")), refused);
}
