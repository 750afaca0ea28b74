//! Which bytes have the digest.

use super::*;

fn check(measured: &[u8], data: &[u8], expected: Content<'_>) {
    for alg in ALL {
        assert_eq!(Content::find(alg, &digest(alg, measured), data), expected);
    }
}

#[test]
fn is_what_has_the_digest() {
    check(b"all of it", b"all of it", Content::Whole(b"all of it"));
    check(b"", b"", Content::Whole(b""));
    check(b"a kernel", b"/vmlinuz\0", Content::Absent);
    check(b"", b"/vmlinuz\0", Content::Absent);
}

#[test]
fn leaves_out_the_byte_that_old_shims_left_out() {
    check(b"certificat", b"certificate", Content::Whole(b"certificat"));
    check(b"certifica", b"certificate", Content::Absent);
}

#[test]
fn is_a_command_without_what_grub_calls_it() {
    check(
        b"set a=b: c",
        b"grub_cmd: set a=b: c\0",
        Content::Part(b"set a=b: c"),
    );
    check(b"c", b"grub_cmd: set a=b: c\0", Content::Absent);
    check(b"set a", b"grub_cmd: set a", Content::Part(b"set a"));
    check(b"set a", b"GRUB: set a\0", Content::Absent);
    check(b"set a", b": set a\0", Content::Absent);
}

/// GRUB of some distributions has no colon, and counts the NUL of a command, but not that of a command line.
#[test]
fn is_a_command_of_grub_that_has_no_colon() {
    let command = b"grub_cmd set a=b: c\0";
    check(b"set a=b: c\0", command, Content::Part(b"set a=b: c\0"));
    check(b"set a=b: c", command, Content::Part(b"set a=b: c"));
    check(b"c", command, Content::Absent);
    let line = b"grub_kernel_cmdline /vmlinuz ro\0";
    check(b"/vmlinuz ro", line, Content::Part(b"/vmlinuz ro"));
}

#[test]
fn is_the_data_where_a_nul_was_counted_besides() {
    check(b"options\0", b"options", Content::Unended(b"options"));
    check(b"options\0\0", b"options", Content::Absent);
}

#[test]
fn is_the_value_of_a_boot_variable() {
    let data = variable("BootOrder", &[1, 0, 2, 0]);
    check(&[1, 0, 2, 0], &data, Content::Part(&[1, 0, 2, 0]));
    assert_eq!(Content::Part(&data).variable(), None);
}

#[test]
fn gives_variables_with_their_names() {
    let mut data = variable("SecureBoot", &[1]);
    let check = |data: &[u8]| {
        let variable = Content::Whole(data).variable().unwrap();
        assert_eq!(
            (variable.vendor, variable.name().as_deref()),
            ([7; 16], Some("SecureBoot"))
        );
        assert_eq!(variable.data, [1]);
    };
    check(&data);
    data.extend([0; 6]);
    check(&data);
    data.truncate(40);
    assert_eq!(Content::Whole(&data).variable(), None);
    // Lengths that overflow.
    data[16..24].copy_from_slice(&(1_u64 << 63).to_le_bytes());
    assert_eq!(Content::Whole(&data).variable(), None);
    data[16..32].copy_from_slice(&[0xff; 16]);
    assert_eq!(Content::Whole(&data).variable(), None);
}
