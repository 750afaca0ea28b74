//! What this machine needs for what no server can do without.

use std::{
    fmt,
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};

/// Times of single operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) sign: Duration,
    pub(crate) verify: Duration,
    pub(crate) sync: Duration,
}

const SIGNATURES: u32 = 5000;
const SYNCS: u32 = 100;

/// Measures them.
pub(crate) async fn measure() -> Result<Floor> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| anyhow!("no key"))?;
    let random = SystemRandom::new();
    let message = [7; 300];
    let sign = || key.sign(&random, &message).map_err(|_| anyhow!("no signature"));
    let signature = sign()?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    Ok(Floor {
        sign: each(SIGNATURES, || sign().map(drop))?,
        verify: each(SIGNATURES, || {
            public
                .verify(&message, signature.as_ref())
                .map_err(|_| anyhow!("not verified"))
        })?,
        sync: sync()?,
    })
}

fn each(times: u32, act: impl Fn() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..times {
        act()?;
    }
    Ok(begun.elapsed() / times)
}

fn sync() -> Result<Duration> {
    let mut file: File = tempfile::tempfile_in(".")?;
    let begun = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&[1; 512])?;
        file.sync_data()?;
    }
    Ok(begun.elapsed() / SYNCS)
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        writeln!(f, "floor: P-256 sign        {:8.1} µs", micros(self.sign))?;
        writeln!(f, "floor: P-256 verify      {:8.1} µs", micros(self.verify))?;
        writeln!(f, "floor: fdatasync, 512 B  {:8.1} µs", micros(self.sync))
    }
}
