//! Logs that no firmware wrote: they are refused or read, and never more.

use attest::{
    HashAlg, PcrSet,
    event_log::{EventLog, Measurements},
};
use proptest::{prelude::*, sample::Index};

use crate::fixtures::event_log;

/// A server's with GRUB, a notebook's with Windows, one whose events lack a bank, a legacy one, and one with
/// padding.
const LOGS: [&str; 5] = [
    "guard-dl160-fwupd-report.eventlog.bin",
    "guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin",
    "guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin",
    "goattest-windows_gcp_shielded_vm.bin",
    "goeventlog-event_log_ccel.bin",
];

/// The header and the first events of a log.
const FRONT: usize = 256;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read_all(&bytes)?;
    }

    /// Lengths and counts are in few places, so those near the front are changed more often.
    #[test]
    fn survives_any_change(
        log in prop::sample::select(&LOGS[..]),
        changes in prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
    ) {
        let mut bytes = event_log(log);
        for (at, front, value) in changes {
            let end = if front { FRONT.min(bytes.len()) } else { bytes.len() };
            bytes[at.index(end)] = value;
        }
        read_all(&bytes)?;
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes)?;
    }

    /// Each bit of each digest counts.
    #[test]
    fn a_changed_digest_changes_the_pcr(event in any::<Index>(), byte in 0..32_usize, bit in 0..8) {
        let bytes = event_log("guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin");
        let log = EventLog::parse(&bytes).unwrap();
        let event = log.events().nth(event.index(log.events().count())).unwrap();
        let mut changed = bytes.clone();
        changed[digest_at(&bytes, event.index) + byte] ^= 1_u8 << bit;

        let good = log.replay(HashAlg::Sha256).unwrap();
        let bad = EventLog::parse(&changed).unwrap().replay(HashAlg::Sha256).unwrap();
        for (alg, pcr, value) in good.iter() {
            prop_assert_eq!(bad.get(alg, pcr) == Some(value), pcr != event.pcr, "PCR {}", pcr);
        }
    }
}

/// Where the digest of an event stands in a log of SHA-256 alone.
fn digest_at(bytes: &[u8], index: u32) -> usize {
    let len = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let header = 32 + len(28);
    let event = (1..index).fold(header, |at, _| at + 50 + len(at + 46));
    event + 14
}

/// Reads whatever there is to be read. Nothing is larger than the bytes.
fn read_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(log) = EventLog::parse(bytes) else {
        return Ok(());
    };
    let size: usize = log
        .events()
        .map(|event| {
            event.data.len()
                + event
                    .digests
                    .iter()
                    .map(|(_, digest)| digest.len())
                    .sum::<usize>()
        })
        .sum();
    prop_assert!(size <= bytes.len());
    let pcrs: PcrSet = (0..PcrSet::COUNT).collect();
    for alg in log.banks() {
        let _replayed = log.replay(alg);
        let Ok(measurements) = Measurements::verify(log.clone(), alg, pcrs) else {
            continue;
        };
        let measured: usize = pcrs
            .iter()
            .flat_map(|pcr| measurements.of(pcr).unwrap())
            .filter_map(|measurement| measurement.content.bytes())
            .map(<[u8]>::len)
            .sum();
        prop_assert!(measured <= bytes.len());
    }
    Ok(())
}
