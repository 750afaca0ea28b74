//! Randomness, from the one cryptographic library.

/// Random bytes, fit for keys, nonces and serial numbers.
///
/// The generator behind it seeds itself from the kernel and does not fail once it has started; should it,
/// the process ends rather than go on with known bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}
