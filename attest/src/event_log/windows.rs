//! What Windows measures in tagged events (SIPA), by the names and numbers that Microsoft publishes in `wbcl.h`. For
//! display, as all remarks: Windows' own boot is decided on by nothing here.

use super::record::LeReader;

/// A tagged event as `BOOTDEBUGGING=0`; those that hold others with these in braces. Nothing of numbers that Windows does
/// not use. Longer texts than `room` end where that is full.
pub(super) fn tagged(id: u32, body: &[u8], room: usize) -> Option<String> {
    let mut text = String::new();
    write(id, body, MAX_DEPTH, room, &mut text)?;
    Some(text)
}

/// An event and, behind it, the depth that is left for those inside.
fn write(id: u32, body: &[u8], depth: u8, room: usize, text: &mut String) -> Option<()> {
    let (_, name) = NAMES.iter().find(|(known, _)| *known == id)?;
    text.push_str(name);
    if id & AGGREGATION == 0 {
        text.push('=');
        text.push_str(&value(body));
        return Some(());
    }
    text.push('{');
    let mut reader = LeReader::new(body);
    let mut is_first = true;
    while let Some((id, body)) = read(&mut reader) {
        if !is_first {
            text.push(' ');
        }
        is_first = false;
        if text.len() >= room {
            text.push('…');
            break;
        }
        let inside = depth
            .checked_sub(1)
            .and_then(|depth| write(id, body, depth, room, text));
        if inside.is_none() {
            text.push_str(&format!("{id:#010x}={}", value(body)));
        }
    }
    text.push('}');
    Some(())
}

/// Number and data of a tagged event.
fn read<'a>(reader: &mut LeReader<'a>) -> Option<(u32, &'a [u8])> {
    let (id, len) = (reader.u32().ok()?, reader.u32().ok()?);
    Some((id, reader.take(usize::try_from(len).ok()?).ok()?))
}

/// A number, a text, or bytes.
fn value(body: &[u8]) -> String {
    if matches!(body.len(), 1 | 2 | 4 | 8) {
        return little(body).to_string();
    }
    match utf16(body) {
        Some(text) => format!("\"{text}\""),
        None if body.len() <= MAX_BYTES => hex::encode(body),
        None => format!("{} bytes", body.len()),
    }
}

fn little(body: &[u8]) -> u64 {
    body.iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A text in UTF-16 that ends with NUL.
fn utf16(body: &[u8]) -> Option<String> {
    let (units, rest) = body.as_chunks();
    let units = units.iter().copied().map(u16::from_le_bytes);
    let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
    let text = text.strip_suffix('\0').filter(|_| rest.is_empty())?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Marks events that hold others.
const AGGREGATION: u32 = 0x4000_0000;
/// How deep events are read that are in others: Windows itself needs three.
const MAX_DEPTH: u8 = 4;
/// Longest bytes that are shown: a digest.
const MAX_BYTES: usize = 64;

/// Numbers with names, as far as they are documented.
const NAMES: &[(u32, &str)] = &[
    (0x4001_0001, "TRUSTBOUNDARY"),
    (0x4001_0002, "ELAM"),
    (0x4001_0003, "LOADEDMODULE"),
    (0xC001_0004, "TRUSTPOINT"),
    (0x4001_0005, "KSR"),
    (0x0002_0001, "INFORMATION"),
    (0x0002_0002, "BOOTCOUNTER"),
    (0x0002_0003, "TRANSFER_CONTROL"),
    (0x0002_0004, "APPLICATION_RETURN"),
    (0x0002_0005, "BITLOCKER_UNLOCK"),
    (0x0002_0006, "EVENTCOUNTER"),
    (0x0002_0007, "COUNTERID"),
    (0x0002_0008, "MORBIT_NOT_CANCELABLE"),
    (0x0002_0009, "APPLICATION_SVN"),
    (0x0002_000A, "SVN_CHAIN_STATUS"),
    (0x0002_000B, "MORBIT_API_STATUS"),
    (0x0004_0001, "BOOTDEBUGGING"),
    (0x0004_0002, "BOOT_REVOCATION_LIST"),
    (0x0005_0001, "OSKERNELDEBUG"),
    (0x0005_0002, "CODEINTEGRITY"),
    (0x0005_0003, "TESTSIGNING"),
    (0x0005_0004, "DATAEXECUTIONPREVENTION"),
    (0x0005_0005, "SAFEMODE"),
    (0x0005_0006, "WINPE"),
    (0x0005_0007, "PHYSICALADDRESSEXTENSION"),
    (0x0005_0008, "OSDEVICE"),
    (0x0005_0009, "SYSTEMROOT"),
    (0x0005_000A, "HYPERVISOR_LAUNCH_TYPE"),
    (0x0005_000B, "HYPERVISOR_PATH"),
    (0x0005_000C, "HYPERVISOR_IOMMU_POLICY"),
    (0x0005_000D, "HYPERVISOR_DEBUG"),
    (0x0005_000E, "DRIVER_LOAD_POLICY"),
    (0x0005_000F, "SI_POLICY"),
    (0x0005_0010, "HYPERVISOR_MMIO_NX_POLICY"),
    (0x0005_0011, "HYPERVISOR_MSR_FILTER_POLICY"),
    (0x0005_0012, "VSM_LAUNCH_TYPE"),
    (0x0005_0013, "OS_REVOCATION_LIST"),
    (0x0005_0014, "SMT_STATUS"),
    (0x0005_0020, "VSM_IDK_INFO"),
    (0x0005_0021, "FLIGHTSIGNING"),
    (0x0005_0022, "PAGEFILE_ENCRYPTION_ENABLED"),
    (0x0005_0023, "VSM_IDKS_INFO"),
    (0x0005_0024, "HIBERNATION_DISABLED"),
    (0x0005_0025, "DUMPS_DISABLED"),
    (0x0005_0026, "DUMP_ENCRYPTION_ENABLED"),
    (0x0005_0027, "DUMP_ENCRYPTION_KEY_DIGEST"),
    (0x0005_0028, "LSAISO_CONFIG"),
    (0x0005_0029, "SBCP_INFO"),
    (0x0005_0030, "HYPERVISOR_BOOT_DMA_PROTECTION"),
    (0x0006_0001, "NOAUTHORITY"),
    (0x0006_0002, "AUTHORITYPUBKEY"),
    (0x0007_0001, "FILEPATH"),
    (0x0007_0002, "IMAGESIZE"),
    (0x0007_0003, "HASHALGORITHMID"),
    (0x0007_0004, "AUTHENTICODEHASH"),
    (0x0007_0005, "AUTHORITYISSUER"),
    (0x0007_0006, "AUTHORITYSERIAL"),
    (0x0007_0007, "IMAGEBASE"),
    (0x0007_0008, "AUTHORITYPUBLISHER"),
    (0x0007_0009, "AUTHORITYSHA1THUMBPRINT"),
    (0x0007_000A, "IMAGEVALIDATED"),
    (0x0007_000B, "MODULE_SVN"),
    (0x0009_0001, "ELAM_KEYNAME"),
    (0x0009_0002, "ELAM_CONFIGURATION"),
    (0x0009_0003, "ELAM_POLICY"),
    (0x0009_0004, "ELAM_MEASURED"),
    (0x000A_0001, "VBS_VSM_REQUIRED"),
    (0x000A_0002, "VBS_SECUREBOOT_REQUIRED"),
    (0x000A_0003, "VBS_IOMMU_REQUIRED"),
    (0x000A_0004, "VBS_MMIO_NX_REQUIRED"),
    (0x000A_0005, "VBS_MSR_FILTERING_REQUIRED"),
    (0x000A_0006, "VBS_MANDATORY_ENFORCEMENT"),
    (0x000A_0007, "VBS_HVCI_POLICY"),
    (0x000A_0008, "VBS_MICROSOFT_BOOT_CHAIN_REQUIRED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        [&id.to_le_bytes(), &len.to_le_bytes(), body].concat()
    }

    #[test]
    fn names_what_windows_measures_and_no_more_than_there_is_room_for() {
        let check = |id: u32, body: &[u8], room, expected: Option<&str>| {
            assert_eq!(tagged(id, body, room).as_deref(), expected, "{id:#x}");
        };
        check(0x4_0001, &[0], 99, Some("BOOTDEBUGGING=0"));
        check(0x2_0002, &[4, 1, 0, 0, 0, 0, 0, 0], 99, Some("BOOTCOUNTER=260"));
        check(0x7_0001, b"\\\0W\0i\0n\0\0\0", 99, Some("FILEPATH=\"\\Win\""));
        check(
            0x7_0004,
            &[7; 32],
            99,
            Some(&format!("AUTHENTICODEHASH={}", "07".repeat(32))),
        );
        check(0x5_0013, &[0xff; 65], 99, Some("OS_REVOCATION_LIST=65 bytes"));
        check(0xECE1_1234, &[0], 99, None);
        let inside = [event(0x5_0001, &[1]), event(0x1234, &[2])].concat();
        let expected = "LOADEDMODULE{OSKERNELDEBUG=1 0x00001234=2}";
        check(0x4001_0003, &inside, 99, Some(expected));
        check(0x4001_0003, &inside, 20, Some("LOADEDMODULE{OSKERNELDEBUG=1 …}"));
        // Cut off: what can be read is shown.
        check(
            0x4001_0003,
            &inside[..13],
            99,
            Some("LOADEDMODULE{OSKERNELDEBUG=1}"),
        );
    }

    #[test]
    fn events_in_events_end_somewhere() {
        let mut body = Vec::new();
        for _ in 0..100 {
            body = event(0x4001_0001, &body);
        }
        let text = tagged(0x4001_0001, &body, 1000).unwrap();
        assert_eq!(
            text.matches("TRUSTBOUNDARY").count(),
            usize::from(MAX_DEPTH) + 1,
            "{text}"
        );
    }
}
