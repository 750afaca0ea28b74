//! Unified kernel images (UKI) as files: what a boot of one measures, without booting it.
//!
//! ```text
//!   bytes ──▶ UkiImage::parse ──▶ UkiImage    refuses: no PE image, one whose parts overlap or are cut short,
//!                                    │                 one of which we can't say what is measured
//!                                    ▼
//!                                Prediction   PCR 4: the image as firmware hashes it (Authenticode);
//!                                             PCR 11: the sections, alone and after each phase of the boot
//! ```
//!
//! The file is an operator's own, but it may be damaged or somebody else's: nothing in it is trusted, and no part is
//! read twice. Compare systemd-measure(1), which predicts PCR 11 from the parts of an image.

mod image;
mod pe;
mod predict;

#[cfg(test)]
mod tests;

pub use image::{UkiError, UkiImage};
pub use pe::{PeError, PeImage};
pub use predict::{Prediction, predict_pcr11};
