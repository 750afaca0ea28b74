//! The vendors' CA certificates that come with this crate; where they are from is in `roots/SOURCES.md`.
//!
//! A vendor's root vouches for that vendor's TPMs alone (6): who breaks into one vendor's CA gets no host with
//! another one's TPM. What stands in a file of roots is believed although it may not have issued itself: some vendors
//! publish no more, and what stands above it is signed with SHA-1.

use x509_parser::pem::Pem;

use super::{CaCertificate, EkRoots, VendorId};

struct Vendor {
    /// By which its TPMs are known.
    ids: &'static [VendorId],
    roots: &'static [u8],
    intermediates: &'static [u8],
}

const AMD: VendorId = VendorId::new(*b"AMD\0");
const IFX: VendorId = VendorId::new(*b"IFX\0");
const INTC: VendorId = VendorId::new(*b"INTC");
const MSFT: VendorId = VendorId::new(*b"MSFT");
const NSG: VendorId = VendorId::new(*b"NSG\0");
const NTC: VendorId = VendorId::new(*b"NTC\0");
const NTZ: VendorId = VendorId::new(*b"NTZ\0");
const STM: VendorId = VendorId::new(*b"STM\0");

const VENDORS: [Vendor; 8] = [
    // Pluton is Microsoft's, in processors of AMD: its TPMs may name either, and AMD certifies them.
    Vendor {
        ids: &[AMD, MSFT],
        roots: include_bytes!("../../roots/AMD-roots.pem"),
        intermediates: include_bytes!("../../roots/AMD-intermediates.pem"),
    },
    Vendor {
        ids: &[IFX],
        roots: include_bytes!("../../roots/IFX-roots.pem"),
        intermediates: include_bytes!("../../roots/IFX-intermediates.pem"),
    },
    Vendor {
        ids: &[INTC],
        roots: include_bytes!("../../roots/INTC-roots.pem"),
        intermediates: include_bytes!("../../roots/INTC-intermediates.pem"),
    },
    Vendor {
        ids: &[MSFT],
        roots: include_bytes!("../../roots/MSFT-roots.pem"),
        intermediates: include_bytes!("../../roots/MSFT-intermediates.pem"),
    },
    // NSING was the part of Nationz that makes TPMs.
    Vendor {
        ids: &[NSG, NTZ],
        roots: include_bytes!("../../roots/NSG-roots.pem"),
        intermediates: include_bytes!("../../roots/NSG-intermediates.pem"),
    },
    Vendor {
        ids: &[NTC],
        roots: include_bytes!("../../roots/NTC-roots.pem"),
        intermediates: include_bytes!("../../roots/NTC-intermediates.pem"),
    },
    Vendor {
        ids: &[NTZ],
        roots: include_bytes!("../../roots/NTZ-roots.pem"),
        intermediates: &[],
    },
    Vendor {
        ids: &[STM],
        roots: include_bytes!("../../roots/STM-roots.pem"),
        intermediates: include_bytes!("../../roots/STM-intermediates.pem"),
    },
];

impl EkRoots {
    /// Trusts the roots that come with this crate, each for the TPMs of its vendor, and knows their intermediates.
    pub fn add_shipped(&mut self) {
        for vendor in &VENDORS {
            certificates(vendor.roots).for_each(|root| self.add_vendor_root(root, vendor.ids));
            certificates(vendor.intermediates).for_each(|between| self.add_intermediate(between));
        }
    }
}

/// What can't be read is left out; a test reads them all.
fn certificates(pem: &'static [u8]) -> impl Iterator<Item = CaCertificate> {
    Pem::iter_from_buffer(pem)
        .filter_map(Result::ok)
        .filter_map(|block| CaCertificate::parse(&block.contents).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ek::{
        Expiry,
        chain::{Issued, Search},
    };

    /// Vendors spell a root's name in one string type, and in another one below it.
    #[test]
    fn each_intermediate_leads_to_a_root_of_its_vendor() {
        let mut shipped = EkRoots::new(Expiry::Ignored);
        shipped.add_shipped();
        for vendor in &VENDORS {
            for between in certificates(vendor.intermediates) {
                let parsed = between.parsed().unwrap();
                let leads = |id| {
                    Search::new(&shipped, Some(id), &[], NOW)
                        .find(&Issued::certificate(&parsed))
                        .is_ok()
                };
                assert!(vendor.ids.iter().copied().any(leads), "{}", parsed.subject());
            }
        }
    }

    /// 2026-11-23.
    const NOW: i64 = 1_795_392_000;

    #[test]
    fn each_certificate_is_read() {
        let blocks = |pem: &[u8]| pem.windows(11).filter(|bytes| *bytes == b"-----BEGIN ").count();
        let mut roots = 0;
        for vendor in &VENDORS {
            assert_eq!(
                certificates(vendor.roots).count(),
                blocks(vendor.roots),
                "{:?}",
                vendor.ids
            );
            let intermediates = certificates(vendor.intermediates).count();
            assert_eq!(intermediates, blocks(vendor.intermediates), "{:?}", vendor.ids);
            roots += blocks(vendor.roots);
        }
        let mut shipped = EkRoots::new(Expiry::Enforced);
        shipped.add_shipped();
        assert_eq!(shipped.len(), roots);
    }
}
