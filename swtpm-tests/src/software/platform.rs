//! A maker of machines in software, who says which TPM he put into which.

use attest::ek::CertificateId;

use crate::vendor::{Ca, common_name, element};

/// What an attribute certificate of a platform says. As it stands, it is a good one.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Common name of the issuer of the endorsement certificate, and its serial number.
    pub holder: (String, Vec<u8>),
    /// Name of the CA that signs.
    pub issuer: String,
    /// Last arc of `2.23.133.8`, which says of what kind it is.
    pub kinds: Vec<u8>,
    /// Last arc of `2.23.133.5.1`, and the value.
    pub names: Vec<(u8, String)>,
    /// From when to when it is valid.
    pub validity: [String; 2],
    /// Whether it has an extension that nobody knows, and that is critical.
    pub has_unknown: bool,
    /// What stands in the holder behind the certificate.
    pub beside: Vec<u8>,
}

impl Platform {
    /// Of the machine whose endorsement certificate this is, by a CA of this name. The issuer of the endorsement
    /// certificate has no more than a common name.
    pub fn new(issuer: &str, holder: &CertificateId) -> Self {
        let common_name = holder.issuer().strip_prefix("CN=").unwrap();
        let names = [(1, "Plastron"), (4, "Carapace 1"), (5, "1.0"), (6, "C1-0042")];
        Self {
            holder: (common_name.into(), holder.serial().into()),
            issuer: issuer.into(),
            kinds: vec![2],
            names: names.map(|(arc, name)| (arc, name.into())).into(),
            validity: ["20200101000000Z".into(), "20400101000000Z".into()],
            has_unknown: false,
            beside: Vec::new(),
        }
    }

    /// In DER, signed by `ca`.
    pub fn signed_by(&self, ca: &Ca) -> Vec<u8> {
        // ecdsa-with-SHA256.
        let algorithm = element(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
        let unsigned = self.unsigned(&algorithm);
        let signature = element(0x03, &[&[0], &ca.sign(&unsigned)]);
        element(0x30, &[&unsigned, &algorithm, &signature])
    }

    fn unsigned(&self, algorithm: &[u8]) -> Vec<u8> {
        let directory = |name: &str| element(0x30, &[&element(0xa4, &[&common_name(name)])]);
        let (issuer, serial) = &self.holder;
        let base = element(0xa0, &[&directory(issuer), &element(0x02, &[serial])]);
        let time = |text: &String| element(0x18, &[text.as_bytes()]);
        let parts: [&[u8]; 8] = [
            &element(0x02, &[&[1]]),
            &element(0x30, &[&base, &self.beside]),
            &element(0xa0, &[&directory(&self.issuer)]),
            algorithm,
            &element(0x02, &[&[0x2a]]),
            &element(0x30, &[&self.validity.each_ref().map(time).concat()]),
            &element(0x30, &[&self.attributes()]),
            &element(0x30, &[&self.extensions()]),
        ];
        element(0x30, &parts)
    }

    fn attributes(&self) -> Vec<u8> {
        let kind = |arc: &u8| {
            let named = element(0x06, &[&[0x67, 0x81, 0x05, 2, 25]]);
            let value = element(0x30, &[&element(0x06, &[&[0x67, 0x81, 0x05, 8, *arc]])]);
            element(0x30, &[&named, &element(0x31, &[&value])])
        };
        self.kinds.iter().flat_map(kind).collect()
    }

    fn extensions(&self) -> Vec<u8> {
        let name = |(arc, value): &(u8, String)| {
            let named = element(0x06, &[&[0x67, 0x81, 0x05, 5, 1, *arc]]);
            let attribute = element(0x30, &[&named, &element(0x0c, &[value.as_bytes()])]);
            element(0x31, &[&attribute])
        };
        let names: Vec<u8> = self.names.iter().flat_map(name).collect();
        let directory = element(0xa4, &[&element(0x30, &[&names])]);
        let alternative = element(0x04, &[&element(0x30, &[&directory])]);
        let mut extensions = element(0x30, &[&[0x06, 3, 0x55, 0x1d, 0x11], &alternative]);
        if self.has_unknown {
            let critical: &[u8] = &[0x06, 3, 0x2a, 3, 4, 0x01, 1, 0xff, 0x04, 2, 5, 0];
            extensions.extend(element(0x30, &[critical]));
        }
        extensions
    }
}
