//! What each log of a real machine proves of how it was booted: Secure Boot, hand-over, kernel image.

use attest::{
    PcrSet, Reject,
    event_log::{EventLog, Handover, Measurements, SecureBoot, boot_phases, signatures, uki_sections},
};

use crate::fixtures::{self, event_log, pcrs, secure_boot_file};

/// Of each log whose contents are accepted: Secure Boot, its mode, how many entries `PK`, `KEK`, `db` and `dbx` have, and
/// by what images were verified; how many images were started before the boot option and from then on; the sections of
/// a unified kernel image. Or why a policy can't rest on it.
const STATES: &str = "\
acs-tpm2bios.log | log_separator
goattest-coreos_36_shielded_vm_no_secure_boot_eventlog | off User 1/1/2/186 [SbatLevel MokListTrusted]; 0+2 images; 
goattest-crypto_agile_eventlog | off User 1/1/3/77 []; log_handover; 
goattest-ebs_event_missing_eventlog | off User 1/2/4/14 []; log_handover; 
goattest-option_rom_eventlog | on User 1/2/3/78 [db! db!]; log_handover; 
goattest-short_no_action_eventlog | log_separator
goattest-ubuntu_2104_shielded_vm_no_secure_boot_eventlog | off User 1/1/2/186 [SbatLevel]; 0+2 images; 
goattest-windows_gcp_shielded_vm.bin | log_separator
goeventlog-event_log_ccel.bin | log_separator
goeventlog-linux_tpm12.bin | secure_boot_variable; log_handover; 
gotpmtools-confidential-gke-debug-251000_eventlog.bin | on User 1/1/1/4 [db! SbatLevel MokListTrusted db!]; 0+3 images; 
gotpmtools-cos-101-amd-sev.bin | on User 1/1/1/4 [db! SbatLevel db!]; 0+4 images; 
gotpmtools-cos-85-amd-sev.bin | on User 1/1/1/4 [db! db db]; 0+3 images; 
gotpmtools-debian-10.bin | on User 1/1/2/186 [db! Shim]; log_handover; 
gotpmtools-eventlogwithsp800155.bin | on User 1/1/1/4 [db! SbatLevel MokListTrusted db!]; 0+3 images; 
gotpmtools-glinux-alex.bin | off User 1/1/4/77 []; log_handover; 
gotpmtools-ubuntu-1804-amd-sev.bin | off User 1/1/2/77 []; 0+2 images; 
gotpmtools-ubuntu-2104-no-dbx.bin | off User 1/1/2/0 [SbatLevel]; 0+2 images; 
gotpmtools-ubuntu-2104-no-secure-boot.bin | off User 1/1/2/186 [SbatLevel]; 0+2 images; 
guard-IMN-DELL.eventlog.bin | on User 1/1/4/84 [db! db!]; 1+1 images; 
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin | secure_boot_variable; log_handover; 
guard-dell-notebook-5eventlogs-WBCL-0.eventlog.bin | off User 1/2/4/77 []; 0+2 images; 
guard-dell-notebook-5eventlogs-WBCL-1.eventlog.bin | off User 1/2/4/77 []; 0+2 images; 
guard-dell-notebook-5eventlogs-WBCL-2.eventlog.bin | off User 1/2/4/77 []; 0+2 images; 
guard-dell-notebook-5eventlogs-WBCL-3.eventlog.bin | off User 1/2/4/77 []; 0+2 images; 
guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin | off User 1/2/4/77 []; 0+2 images; 
guard-dell-notebook-5eventlogs-WBCL.log | off User 1/2/4/267 []; 0+2 images; 
guard-dl160-fwupd-report.eventlog.bin | on User 1/3/7/298 [db! db! SbatLevel Shim]; log_handover; 
guard-failed-1.eventlog.bin | on User 1/2/3/77 [db!]; 0+1 images; 
guard-good-1.eventlog.bin | on User 1/2/3/77 [db!]; 0+1 images; 
guard-issue926-x1carbon-before.eventlog.bin | on User 1/2/3/83 [db!]; 0+1 images; 
guard-supermicro-WBCL-OSLOAD-quoted.log | secure_boot_variable; log_handover; 
guard-test-HP-EliteBook-830-G6-baseline.eventlog.bin | on User 1/2/3/84 [db! SbatLevel Shim]; 1+3 images; 
hirs-TpmLog.bin | off Setup 0/0/0/0 []; log_handover; 
hirs-laptop.default.1.rimel | on User 1/2/3/78 [db! vendor_db MokList]; log_handover; 
keylime-binary_bios_measurements | off User 1/2/4/460 [SbatLevel]; log_handover; 
keylime-binary_bios_measurements-secureboot | on User 1/3/4/371 [db! SbatLevel vendor_db]; 0+3 images; 
keylime-mb_log.bin | on User 1/2/2/1 [db! Shim]; 0+4 images; 
rustkeylime-uefi_log.bin | off User 1/3/4/482 [SbatLevel]; 0+2 images; 
tpm2tools-event-arch-linux.bin | off User 1/2/12/77 []; log_handover; 
tpm2tools-event-bootorder.bin | off Setup 0/0/0/0 []; 0+2 images; 
tpm2tools-event-gce-ubuntu-2104-log.bin | off User 1/1/2/0 [SbatLevel]; 0+2 images; 
tpm2tools-event-moklisttrusted.bin | on User 1/2/2/1 [db! SbatLevel MokListTrusted Shim]; 0+4 images; 
tpm2tools-event-uefi-sha1-log.bin | off Setup 0/1/2/78 []; log_handover; 
tpm2tools-event-uefiaction.bin | log_banks
tpm2tools-event-uefiservices.bin | log_separator
tpm2tools-event-uefivar.bin | log_banks
tpm2tools-event.bin | log_separator
tpm2tools-specid-vendordata.bin | log_separator
vm-mem512.bin | off Setup 0/0/0/0 []; 0+2 images; .linux.osrel.cmdline.initrd
vm-nosb-53c.bin | off Setup 0/0/0/0 []; 0+2 images; .linux.osrel.cmdline.initrd
vm-nosb-56c-again.bin | off Setup 0/0/0/0 []; 0+2 images; .linux.osrel.cmdline.initrd
vm-nosb-56c.bin | off Setup 0/0/0/0 []; 0+2 images; .linux.osrel.cmdline.initrd
vm-nosb-56g-openNET.bin | off Setup 0/0/0/0 []; 0+2 images; .linux.osrel.cmdline.initrd
vm-sb-56c-cmd2.bin | on User 1/1/1/1 [db!]; 0+1 images; .linux.osrel.cmdline.initrd
vm-sb-56c.bin | on User 1/1/1/1 [db!]; 0+1 images; .linux.osrel.cmdline.initrd
vm-sb-snakeoil-smm.bin | on User 1/1/1/1 [db!]; 0+1 images; .linux.osrel.cmdline.initrd
vm-sb-systemd.bin | on User 1/1/1/1 [db!]; 0+1 images; .linux.osrel.cmdline.initrd
vm-sdboot-type1.bin | off Setup 0/0/0/0 []; 0+2 images; 
vm-smp2-mem512.bin | on User 1/1/1/1 [db!]; 0+1 images; .linux.osrel.cmdline.initrd";

#[test]
fn says_how_each_machine_was_booted() {
    let named: Vec<_> = rows().map(|(log, _)| log).collect();
    assert_eq!(fixtures::event_logs(), named, "the table names each log once");
    let wrong: Vec<_> = rows()
        .map(|(log, expected)| (log, describe(log), expected))
        .filter(|(_, actual, expected)| actual != expected)
        .map(|(log, actual, expected)| format!("{log} | {actual}\n  not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    STATES.lines().map(|row| row.split_once(" | ").unwrap())
}

fn describe(log: &str) -> String {
    let measurements = match measurements(log) {
        Ok(measurements) => measurements,
        Err(reject) => return reject.code().into(),
    };
    [
        SecureBoot::of(&measurements).map_or_else(code, |state| secure_boot(&state)),
        Handover::of(&measurements).map_or_else(code, |handover| {
            format!("{}+{} images", handover.before.len(), handover.images.len())
        }),
        uki_sections(&measurements).map_or_else(code, |sections| {
            let sections = sections.unwrap_or_default();
            let names: Vec<_> = sections.iter().map(|section| section.name).collect();
            names.concat()
        }),
    ]
    .join("; ")
}

fn measurements(log: &str) -> Result<Measurements, Reject> {
    let log = EventLog::parse(&event_log(log))?;
    let alg = log.banks().max().unwrap();
    let all: PcrSet = (0..PcrSet::COUNT).collect();
    Measurements::verify(log, alg, all)
}

fn code(reject: Reject) -> String {
    reject.code().into()
}

fn secure_boot(state: &SecureBoot<'_>) -> String {
    let counts = [&state.pk, &state.kek, &state.db, &state.dbx].map(|keys| keys.len().to_string());
    let authorities: Vec<_> = state
        .authorities
        .iter()
        .map(|authority| {
            format!(
                "{}{}",
                authority.database,
                if authority.is_in_db { "!" } else { "" }
            )
        })
        .collect();
    format!(
        "{} {:?} {} [{}]{}",
        if state.is_on { "on" } else { "off" },
        state.mode,
        counts.join("/"),
        authorities.join(" "),
        if state.weaknesses.is_empty() { "" } else { " weak" },
    )
}

/// systemd went through its phases and told the log nothing.
#[test]
fn finds_the_phases_that_the_log_lacks() {
    let phases = |log: &str, tpm: &str| {
        let log = EventLog::parse(&event_log(log)).unwrap();
        boot_phases(&log, &pcrs(tpm).values, attest::HashAlg::Sha256)
    };
    assert_eq!(
        phases("vm-sb-systemd.bin", "vm-sb-systemd"),
        Some(&["sysinit", "ready"][..])
    );
    assert_eq!(phases("vm-sb-56c.bin", "vm-sb-56c"), Some(&[][..]));
    assert_eq!(phases("vm-sb-56c.bin", "vm-sb-56c-cmd2"), None);
}

/// Each file of `secure-boot`: how many keys or digests it holds, and in the `db`, `KEK` or `dbx` of how many logs they
/// all are.
const KEYS: &str = "\
GcePk.crt | 1 entries, in 7 PK, 0 KEK, 0 db, 0 dbx
MicCorKEKCA2011_2011-06-24.crt | 1 entries, in 0 PK, 31 KEK, 0 db, 0 dbx
MicCorUEFCA2011_2011-06-27.crt | 1 entries, in 0 PK, 0 KEK, 30 db, 0 dbx
MicWinProPCA2011_2011-10-19.crt | 1 entries, in 0 PK, 0 KEK, 31 db, 0 dbx
canonical-boothole.crt | 1 entries, in 0 PK, 0 KEK, 0 db, 6 dbx
cisco-boothole.crt | 1 entries, in 0 PK, 0 KEK, 0 db, 4 dbx
dbxupdate_x64-2021-04-29.bin | 211 entries, in 0 PK, 0 KEK, 0 db, 4 dbx
debian-boothole.crt | 1 entries, in 0 PK, 0 KEK, 0 db, 6 dbx";

#[test]
fn knows_the_keys_of_secure_boot() {
    let named: Vec<_> = KEYS.lines().map(|row| row.split_once(" | ").unwrap().0).collect();
    assert_eq!(
        fixtures::secure_boot_files(),
        named,
        "the table names each file once"
    );
    let wrong: Vec<_> = KEYS
        .lines()
        .map(|row| row.split_once(" | ").unwrap())
        .map(|(file, expected)| (file, find(file), expected))
        .filter(|(_, actual, expected)| actual != expected)
        .map(|(file, actual, expected)| format!("{file} | {actual}\n  not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn find(file: &str) -> String {
    let bytes = secure_boot_file(file);
    let wanted: Vec<Vec<u8>> = if file.starts_with("dbxupdate") {
        let lists = signatures(authenticated(&bytes)).unwrap();
        lists.iter().map(|entry| entry.data.to_vec()).collect()
    } else {
        vec![bytes]
    };
    let mut found = [0; 4];
    for log in fixtures::event_logs() {
        let Ok(measurements) = measurements(&log) else {
            continue;
        };
        let Ok(state) = SecureBoot::of(&measurements) else {
            continue;
        };
        for (count, keys) in found
            .iter_mut()
            .zip([&state.pk, &state.kek, &state.db, &state.dbx])
        {
            *count += usize::from(
                wanted
                    .iter()
                    .all(|wanted| keys.iter().any(|key| key.data == wanted)),
            );
        }
    }
    let [pk, kek, db, dbx] = found;
    format!(
        "{} entries, in {pk} PK, {kek} KEK, {db} db, {dbx} dbx",
        wanted.len()
    )
}

/// What follows an EFI_VARIABLE_AUTHENTICATION_2: a time, and a certificate with its length.
fn authenticated(bytes: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
    &bytes[16 + len as usize..]
}
