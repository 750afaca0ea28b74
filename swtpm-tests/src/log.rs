//! What a captured event log measured. A reader for replay alone: it checks nothing, and panics on what it can't read.

use attest::{HashAlg, wire::Reader};

/// What to do to a fresh TPM, so that its PCRs have the values that the log explains.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Measured {
    /// Locality of TPM2_Startup, if the log says one.
    pub startup_locality: Option<u8>,
    /// In order.
    pub extends: Vec<Extend>,
}

/// A TPM2_PCR_Extend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extend {
    /// Which PCR.
    pub pcr: u32,
    /// Digests by bank.
    pub digests: Vec<(HashAlg, Vec<u8>)>,
}

const EV_NO_ACTION: u32 = 3;

/// Reads a crypto-agile event log (PC Client PFP §10).
///
/// # Panics
///
/// It is none.
#[must_use]
pub fn read_log(log: &[u8]) -> Measured {
    let mut reader = Reader::new(log);
    let mut measured = Measured::default();
    // The first event is in the old format: PCR, type, SHA-1 digest, size.
    reader.take(28).unwrap();
    let header = little(&mut reader);
    assert!(
        reader
            .take(header as usize)
            .unwrap()
            .starts_with(b"Spec ID Event03\0"),
        "not a crypto-agile log"
    );
    // Logs copied from memory end in padding.
    while reader.rest().iter().any(|byte| !matches!(byte, 0 | 0xff)) {
        let (pcr, kind) = (little(&mut reader), little(&mut reader));
        let digests = (0..little(&mut reader))
            .map(|_| read_digest(&mut reader))
            .collect();
        let size = little(&mut reader);
        let data = reader.take(size as usize).unwrap();
        match (kind, data.strip_prefix(b"StartupLocality\0")) {
            (EV_NO_ACTION, Some([locality])) => measured.startup_locality = Some(*locality),
            (EV_NO_ACTION, _) => {}
            _ => measured.extends.push(Extend { pcr, digests }),
        }
    }
    measured
}

fn read_digest(reader: &mut Reader<'_>) -> (HashAlg, Vec<u8>) {
    let alg = u16::from_le_bytes(reader.take(2).unwrap().try_into().unwrap());
    let alg = HashAlg::from_tpm(alg).expect("a known hash algorithm");
    (alg, reader.take(alg.digest_len()).unwrap().to_vec())
}

fn little(reader: &mut Reader<'_>) -> u32 {
    u32::from_le_bytes(reader.take(4).unwrap().try_into().unwrap())
}
