//! Policies, and an image to predict from.

use attest::{
    HashAlg, PcrSet,
    event_log::EventLog,
    policy::{Evidence, learn},
};

use super::{seed, testdata};

pub(super) fn write() {
    for name in ["vm-sb-56c", "vm-sdboot-type1"] {
        let log = EventLog::parse(&testdata(&format!("eventlogs/{name}.bin"))).unwrap();
        let evidence = Evidence::recorded(&log.replay(HashAlg::Sha256).unwrap(), &log).unwrap();
        let pins: PcrSet = [2, 4].into_iter().collect();
        let learned = learn(&"golden".parse().unwrap(), 1, &evidence, pins);
        seed("policy", name, &learned.text);
        seed("policy", &format!("{name}-canonical"), learned.policy.canonical());
    }
    seed("policy", "rules", RULES);
    let image = image();
    seed("uki", "image", &image);
    seed("uki", "headers", &image[..HEADERS]);
}

/// Each rule that is not learned.
const RULES: &str = r#"format = 1
name = "rules"
version = 2
description = "all \u0007 rules"
firmware = []
[secure_boot]
enforced = true
[secure_boot.db]
at_most = ["x509:0000000000000000000000000000000000000000000000000000000000000000"]
at_least = []
[command_line]
exact = ["a b"]
allow = ["root=*", "quiet"]
require = ["quiet"]
[tpm]
at_least = "7"
at_most = "0007000200000000"
[ima]
violations = "accept"
allow = []
deny = ["0000000000000000000000000000000000000000000000000000000000000000"]
"#;

const HEADERS: usize = 1024;
const OPTIONAL: usize = 0x58;
const ALIGNMENT: usize = 512;

/// A unified kernel image of four sections.
fn image() -> Vec<u8> {
    let sections: [(&str, &[u8]); 4] = [
        (".sdmagic", b"#### LoaderInfo: systemd-stub 257 ####\0"),
        (".linux", b"kernel"),
        (".cmdline", b"quiet"),
        (".initrd", &[7; 600]),
    ];
    let mut bytes = vec![0; HEADERS];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let dword = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    put(0, b"MZ");
    put(0x3c, &dword(0x40));
    put(0x40, b"PE\0\0\x64\x86\x04\0");
    put(0x54, &dword(240));
    put(OPTIONAL, &[0x0b, 2]);
    put(OPTIONAL + 60, &dword(HEADERS));
    put(OPTIONAL + 108, &dword(16));
    let mut start = HEADERS;
    for (index, (name, content)) in sections.into_iter().enumerate() {
        let at = OPTIONAL + 240 + index * 40;
        let len = content.len().next_multiple_of(ALIGNMENT);
        put(at, name.as_bytes());
        put(at + 8, &dword(content.len()));
        put(at + 16, &dword(len));
        put(at + 20, &dword(start));
        start += len;
    }
    for (_, content) in sections {
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    bytes
}
