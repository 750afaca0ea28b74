//! What becomes of a record when it is restored: a pure decision.

use prost::Message;
use proto::plastron::store::v1 as stored;
use svid::TrustDomain;

use crate::{
    registry::{CodecError, Kind, Snapshot, kind, read_record},
    store,
};

/// How far entries' revisions and the bundle's sequence go on beyond those of the backup: more changes than one of them
/// can have had since.
const GAP: u32 = 1 << 24;
/// The same for what counts every change: the store's revision, the audit trail's sequence.
pub(super) const FAR: u64 = 1 << 40;

/// Renews records, and counts those that are not restored.
#[derive(Debug)]
pub struct Renewal {
    trust_domain: TrustDomain,
    /// Agents whose hosts have to attest anew.
    pub must_attest: u64,
    /// Join tokens that are void.
    pub void_tokens: u64,
}

/// What a record becomes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Renewed {
    /// It is left out.
    Dropped,
    /// It is restored with this value.
    Kept(Vec<u8>),
}

impl Renewal {
    /// For the records of a trust domain.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            must_attest: 0,
            void_tokens: 0,
        }
    }

    /// Decides on a record.
    ///
    /// # Errors
    ///
    /// It can't be understood.
    pub fn record(&mut self, key: &[u8], value: Vec<u8>) -> Result<Renewed, CodecError> {
        if store::is_own(key) {
            return Ok(Renewed::Dropped);
        }
        // What a server could not start with is not restored.
        read_record(&mut Snapshot::empty(self.trust_domain.clone()), key, &value)?;
        match kind(key) {
            Some(Kind::Agent) => self.agent(value),
            Some(Kind::Authorities) => {
                let mut authorities = stored::Authorities::decode(value.as_slice())?;
                authorities.sequence = authorities.sequence.saturating_add(u64::from(GAP));
                Ok(Renewed::Kept(authorities.encode_to_vec()))
            }
            Some(Kind::Crl) => crl(&value),
            Some(Kind::Entry) => entry(&value),
            Some(Kind::EventLog | Kind::Host | Kind::Policy | Kind::Withdrawal) | None => {
                Ok(Renewed::Kept(value))
            }
            Some(Kind::Token) => {
                self.void_tokens += 1;
                Ok(Renewed::Dropped)
            }
        }
    }

    /// An agent whose host attests by TPM is forgotten, and attests anew. One that is banned stays so.
    fn agent(&mut self, value: Vec<u8>) -> Result<Renewed, CodecError> {
        let agent = stored::Agent::decode(value.as_slice())?;
        if agent.host_id.is_empty() || agent.banned {
            return Ok(Renewed::Kept(value));
        }
        self.must_attest += 1;
        Ok(Renewed::Dropped)
    }
}

/// It ends at once, so that the server makes it anew, with a number beyond those that were given since.
fn crl(value: &[u8]) -> Result<Renewed, CodecError> {
    let mut record = stored::Crl::decode(value)?;
    record.next_update = record.this_update;
    Ok(Renewed::Kept(record.encode_to_vec()))
}

/// Agents know entries by their revision, also such as were given after the backup.
fn entry(value: &[u8]) -> Result<Renewed, CodecError> {
    let mut record = stored::Entry::decode(value)?;
    if let Some(entry) = &mut record.entry {
        entry.revision_number = entry.revision_number.saturating_add(i64::from(GAP));
    }
    Ok(Renewed::Kept(record.encode_to_vec()))
}
