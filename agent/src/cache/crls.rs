//! Which CRLs workloads get. One that libraries refuse to receive would cost its workload the SVID, too.

use std::sync::Arc;

use proto::bytes::Bytes;
use svid::x509::crl_authority;
use tracing::error;

/// Largest CRLs together, in bytes: gRPC libraries take messages of 4 MiB, and SVIDs and bundles are in there, too.
const MAX_CRLS: usize = 1024 * 1024;

/// The `newest` CRLs, the smallest before others, as far as workloads can bear them. Of an authority whose CRL has grown beyond
/// that, the one `before` stands: those that it revokes stay revoked, and nobody else's CRL is lost.
pub(super) fn bearable(newest: &[Bytes], before: &[Bytes]) -> Arc<[Bytes]> {
    let mut by_size: Vec<_> = newest.iter().enumerate().collect();
    by_size.sort_by_key(|(_, crl)| crl.len());
    let mut left = MAX_CRLS;
    let mut fits = |crl: &Bytes| {
        let rest = left.checked_sub(crl.len());
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let mut borne = Vec::new();
    for (place, crl) in by_size {
        if fits(crl) {
            borne.push((place, crl.clone()));
            continue;
        }
        let last = last_of(crl, before).filter(|last| fits(last));
        error!(
            bytes = crl.len(),
            limit = MAX_CRLS,
            keeps_last = last.is_some(),
            "A CRL is too large for workloads, who do not see who was revoked since; taint its authority"
        );
        borne.extend(last.map(|last| (place, last.clone())));
    }
    borne.sort_by_key(|(place, _)| *place);
    borne.into_iter().map(|(_, crl)| crl).collect()
}

/// The CRL before of the authority of this one.
fn last_of<'a>(crl: &Bytes, before: &'a [Bytes]) -> Option<&'a Bytes> {
    let authority = crl_authority(crl)?;
    before
        .iter()
        .find(|last| crl_authority(last).as_ref() == Some(&authority))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod,
        KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
    };

    use super::*;

    struct Authority(Issuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::CrlSign];
            Self(Issuer::new(params, KeyPair::generate().unwrap()))
        }

        /// A CRL with so many serial numbers, of some 40 bytes each.
        fn crl(&self, revoked: u64) -> Bytes {
            let revoked = (0..revoked).map(|number| RevokedCertParams {
                serial_number: (u64::MAX / 2 - number).into(),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            });
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, 1, 1),
                next_update: date_time_ymd(2027, 1, 1),
                crl_number: 1.into(),
                issuing_distribution_point: None,
                revoked_certs: revoked.collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.0).unwrap().der().to_vec().into()
        }
    }

    #[test]
    fn of_an_authority_whose_crl_is_too_large_the_last_one_stands() {
        let [bloated, other] = [Authority::new(), Authority::new()];
        let (small, large) = (bloated.crl(1), bloated.crl(60_000));
        assert!(large.len() > MAX_CRLS);
        let [kept, grown] = [other.crl(1), other.crl(3)];
        let before = [kept.clone(), small.clone()];
        let check = |newest: &[&Bytes], expected: &[&Bytes]| {
            let newest: Vec<_> = newest.iter().copied().cloned().collect();
            let borne: Vec<_> = bearable(&newest, &before).to_vec();
            let expected: Vec<_> = expected.iter().copied().cloned().collect();
            assert!(borne == expected, "{} of {}", borne.len(), newest.len());
        };
        check(&[&large, &grown], &[&small, &grown]);
        check(&[&large], &[&small]);
        check(&[&kept], &[&kept]);
        check(&[], &[]);
    }

    #[test]
    fn what_is_too_large_and_was_never_smaller_is_left_out_alone() {
        let [bloated, other] = [Authority::new(), Authority::new()];
        let newest = [bloated.crl(60_000), other.crl(1)];
        assert!(*bearable(&newest, &[]) == newest[1..]);
    }
}
