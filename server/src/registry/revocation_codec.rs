//! CRLs and withdrawals in the store.

use std::sync::Arc;

use prost::Message;
use proto::plastron::store::v1::{self as stored, RevocationReason as Stored};
use svid::{
    Timestamp,
    x509::{CrlContent, RevocationReason, Revoked, SerialNumber},
};

use super::{CodecError, Withdrawal};
use crate::ca::Crl;

pub(super) const CRL: &[u8] = b"crl/";
pub(super) const WITHDRAWAL: &[u8] = b"withdrawal/";

/// What `key` names after its `prefix`.
pub(super) fn name(key: &[u8], prefix: &[u8]) -> Result<Arc<str>, CodecError> {
    let suffix = key
        .strip_prefix(prefix)
        .and_then(|rest| str::from_utf8(rest).ok());
    suffix.map(Arc::from).ok_or(CodecError::Missing("name"))
}

pub(super) fn crl_key(authority_id: &str) -> Vec<u8> {
    [CRL, authority_id.as_bytes()].concat()
}

pub(super) fn encode_crl(crl: &Crl) -> Vec<u8> {
    let content = &crl.content;
    let revoked = content.revoked.iter().map(|revoked| stored::RevokedCertificate {
        serial: revoked.serial.as_bytes().into(),
        not_after: revoked.not_after.as_unix(),
        revoked_at: revoked.revoked_at.as_unix(),
        reason: reason_to_store(revoked.reason).into(),
    });
    let record = stored::Crl {
        number: content.number,
        this_update: content.this_update.as_unix(),
        next_update: content.next_update.as_unix(),
        revoked: revoked.collect(),
        crl: crl.der.to_vec(),
    };
    record.encode_to_vec()
}

pub(super) fn decode_crl(value: &[u8]) -> Result<Crl, CodecError> {
    let record = stored::Crl::decode(value)?;
    let revoked = record.revoked.iter().map(|revoked| {
        Ok(Revoked {
            serial: SerialNumber::from_bytes(&revoked.serial),
            not_after: Timestamp::from_unix(revoked.not_after),
            revoked_at: Timestamp::from_unix(revoked.revoked_at),
            reason: reason_from_store(revoked.reason())?,
        })
    });
    Ok(Crl {
        content: CrlContent {
            number: record.number,
            this_update: Timestamp::from_unix(record.this_update),
            next_update: Timestamp::from_unix(record.next_update),
            revoked: revoked.collect::<Result<_, CodecError>>()?,
        },
        der: record.crl.into(),
    })
}

pub(super) fn withdrawal_key(path: &str) -> Vec<u8> {
    [WITHDRAWAL, path.as_bytes()].concat()
}

pub(super) fn encode_withdrawal(withdrawal: &Withdrawal) -> Vec<u8> {
    let record = stored::Withdrawal {
        at: withdrawal.at.as_unix(),
        reason: reason_to_store(withdrawal.reason).into(),
        revision: withdrawal.revision,
    };
    record.encode_to_vec()
}

pub(super) fn decode_withdrawal(value: &[u8]) -> Result<Withdrawal, CodecError> {
    let record = stored::Withdrawal::decode(value)?;
    Ok(Withdrawal {
        at: Timestamp::from_unix(record.at),
        reason: reason_from_store(record.reason())?,
        revision: record.revision,
    })
}

fn reason_to_store(reason: RevocationReason) -> Stored {
    match reason {
        RevocationReason::CessationOfOperation => Stored::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn => Stored::PrivilegeWithdrawn,
    }
}

fn reason_from_store(reason: Stored) -> Result<RevocationReason, CodecError> {
    match reason {
        Stored::CessationOfOperation => Ok(RevocationReason::CessationOfOperation),
        Stored::PrivilegeWithdrawn => Ok(RevocationReason::PrivilegeWithdrawn),
        Stored::Unspecified => Err(CodecError::Missing("reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let withdrawal = Withdrawal {
            at: Timestamp::from_unix(5),
            reason: RevocationReason::CessationOfOperation,
            revision: 9,
        };
        let read = decode_withdrawal(&encode_withdrawal(&withdrawal)).unwrap();
        assert_eq!(read, withdrawal);
        let crl = Crl {
            content: CrlContent {
                number: 7,
                this_update: Timestamp::from_unix(1),
                next_update: Timestamp::from_unix(2),
                revoked: vec![Revoked {
                    serial: SerialNumber::from_bytes(&[3]),
                    not_after: Timestamp::from_unix(4),
                    revoked_at: Timestamp::from_unix(5),
                    reason: RevocationReason::PrivilegeWithdrawn,
                }],
            },
            der: vec![8].into(),
        };
        assert_eq!(decode_crl(&encode_crl(&crl)).unwrap(), crl);
        assert_eq!(name(&crl_key("ab"), CRL).unwrap().as_ref(), "ab");
        assert_eq!(name(&withdrawal_key("/x"), WITHDRAWAL).unwrap().as_ref(), "/x");
    }
}
