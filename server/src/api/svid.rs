//! The SVID service.

use std::{collections::HashSet, sync::Arc, time::Duration};

use edge::Clock;
use proto::spire::api::{
    server::svid::v1::{
        BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest, BatchNewX509svidResponse,
        MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest, MintWitsvidResponse,
        MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse,
        NewJwtsvidRequest, NewJwtsvidResponse, NewX509svidParams,
        batch_new_x509svid_response::Result as Item, svid_server,
    },
    types,
};
use svid::{
    DnsName, SpiffeId, TrustDomain,
    x509::{CertificateRequest, Template},
};
use tonic::{Request, Response, Status, async_trait};

use super::{admission::Admission, gate, limit::Limiter, serials::Serials, status};
use crate::{
    ca::{Ca, IssuedSvid, SignedSvid, Signing},
    convert,
    issue::{self, JwtProfile, Lifetimes},
    journal::Record,
    registry::{Agent, EntryId, Registry, Snapshot, authorized_entries, is_authorized},
};

pub(super) struct SvidService {
    pub(super) registry: Registry,
    pub(super) ca: Ca,
    pub(super) lifetimes: Lifetimes,
    pub(super) jwt_profile: JwtProfile,
    pub(super) sign_limit: Limiter,
    pub(super) serials: Option<Serials>,
    pub(super) admission: Admission,
    /// IDs that are minted for nobody: by them people are told apart.
    pub(super) withheld: HashSet<SpiffeId>,
    pub(super) clock: Clock,
}

/// Most SVIDs in a batch.
const BATCH: usize = 500;
/// Signatures before others have their turn.
const AT_A_STRETCH: usize = 16;

#[async_trait]
impl svid_server::Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let mut admitted = self.admission.turn(1).await?;
        let signing = self.ca.signing().map_err(|error| status::not_signed(&error))?;
        let template = self.mint_template(&request, &signing)?;
        let signed = signing
            .sign(&template)
            .map_err(|error| status::not_signed(&error))?;
        admitted.signed();
        let released = self
            .ca
            .release(vec![(signed, Record::new("svid_minted", &actor))])
            .await;
        let issued = released.map_err(|error| status::not_signed(&error))?;
        Ok(Response::new(MintX509svidResponse {
            svid: issued.first().map(convert::svid_to_wire),
        }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let connection = gate::connection(&request)?;
        let caller = gate::caller(&request)?;
        let agent = caller
            .agent()
            .ok_or_else(|| status::bug("signing without agent"))?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("missing parameters"));
        }
        if params.len() > BATCH {
            return Err(Status::resource_exhausted(format!(
                "more than {BATCH} SVIDs in a batch"
            )));
        }
        self.sign_limit.check(connection.address(), params.len())?;
        self.take_serials(agent, &params)?;
        let results = self.sign_batch(agent, params).await?;
        // The ledger has them: whoever withdraws the agent from now on finds them there.
        caller
            .still_stands(&self.registry.snapshot())
            .map_err(|denied| status::denied(&denied))?;
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let issued = self.mint_jwt(request.into_inner(), &actor).await?;
        Ok(Response::new(MintJwtsvidResponse {
            svid: Some(convert::jwt_to_wire(&issued)),
        }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let connection = gate::connection(&request)?;
        let caller = gate::caller(&request)?;
        let agent = caller
            .agent()
            .ok_or_else(|| status::bug("signing without agent"))?;
        self.sign_limit.check(connection.address(), 1)?;
        let svid = self.new_jwt(agent, request.into_inner()).await?;
        caller
            .still_stands(&self.registry.snapshot())
            .map_err(|denied| status::denied(&denied))?;
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn new_downstream_x509ca(
        &self,
        _request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(status::not_offered("downstream servers"))
    }

    async fn mint_witsvid(
        &self,
        _request: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(status::not_offered("WIT-SVIDs"))
    }

    async fn batch_new_witsvid(
        &self,
        _request: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(status::not_offered("WIT-SVIDs"))
    }
}

impl SvidService {
    fn mint_template(&self, request: &MintX509svidRequest, signing: &Signing) -> Result<Template, Status> {
        if request.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let csr = CertificateRequest::verify(&request.csr)
            .map_err(|error| status::invalid("malformed CSR", &error))?;
        let id = only_id(&self.registry.snapshot().trust_domain, &csr)?;
        check_mintable(&id, &self.withheld)?;
        let names: Result<Vec<DnsName>, _> = csr.dns_names.iter().map(|name| name.parse()).collect();
        let names = names.map_err(|error| status::invalid("CSR DNS name is invalid", &error))?;
        let ttl = u64::try_from(request.ttl)
            .ok()
            .filter(|ttl| *ttl > 0)
            .map(Duration::from_secs);
        let ttl = ttl.unwrap_or(self.lifetimes.x509_svid);
        Ok(issue::minted_svid(
            id,
            names,
            csr.public_key,
            ttl,
            self.ca.occasion(signing),
        ))
    }

    /// Counts what would be on the CRL, all by the longest life among them.
    fn take_serials(&self, agent: &Agent, params: &[NewX509svidParams]) -> Result<(), Status> {
        let Some(serials) = &self.serials else {
            return Ok(());
        };
        let (snapshot, now) = (self.registry.snapshot(), self.clock.now());
        // Of entries that are not there nothing is signed.
        let entries: Vec<_> = params
            .iter()
            .filter_map(|item| snapshot.entries.get(&item.entry_id))
            .collect();
        let life = issue::longest_life(&self.lifetimes, entries.iter().map(AsRef::as_ref));
        let all = || authorized_entries(&snapshot, agent, now).len();
        serials.take(&agent.path, entries.len(), life, now, all)
    }

    /// Signs each item by itself, then records all that were signed at once.
    async fn sign_batch(&self, agent: &Agent, params: Vec<NewX509svidParams>) -> Result<Vec<Item>, Status> {
        let mut admitted = self.admission.turn(params.len()).await?;
        let snapshot = self.registry.snapshot();
        let signing = self.ca.signing().map_err(|error| status::not_signed(&error))?;
        let agent_id = SpiffeId::new(snapshot.trust_domain.clone(), &agent.path)
            .map_err(|error| status::invalid("agent has malformed SPIFFE ID", &error))?;
        let mut outcomes = Vec::with_capacity(params.len());
        let mut signed = Vec::with_capacity(params.len());
        for (number, item) in params.into_iter().enumerate() {
            if number % AT_A_STRETCH == AT_A_STRETCH - 1 {
                // Signatures by RSA take milliseconds each: others are to have their turn.
                tokio::task::yield_now().await;
            }
            let outcome = self.sign_item(&snapshot, agent, &signing, &item);
            outcomes.push(outcome.map(|(svid, entry_id)| {
                signed.push((
                    svid,
                    Record::new("svid_issued", &agent_id).with("entry_id", &entry_id),
                ));
            }));
        }
        admitted.signed();
        let mut issued = Vec::new().into_iter();
        if !signed.is_empty() {
            let released = self.ca.release(signed).await;
            issued = released.map_err(|error| status::not_signed(&error))?.into_iter();
        }
        Ok(outcomes
            .into_iter()
            .map(|outcome| finish(outcome, || issued.next()))
            .collect())
    }

    fn sign_item(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        signing: &Signing,
        params: &NewX509svidParams,
    ) -> Result<(SignedSvid, EntryId), Status> {
        if params.entry_id.is_empty() {
            return Err(Status::invalid_argument("missing entry ID"));
        }
        if params.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let entry = is_authorized(snapshot, agent, &params.entry_id, self.clock.now())
            .ok_or_else(|| Status::not_found("entry not found or not authorized"))?;
        let csr = CertificateRequest::verify(&params.csr)
            .map_err(|error| status::invalid("malformed CSR", &error))?;
        let id = SpiffeId::new(snapshot.trust_domain.clone(), &entry.spiffe_id.path)
            .map_err(|error| status::invalid("entry has malformed SPIFFE ID", &error))?;
        let occasion = self.ca.occasion(signing);
        let template = issue::workload_svid(id, &entry, csr.public_key, &self.lifetimes, occasion);
        let signed = signing
            .sign(&template)
            .map_err(|error| status::not_signed(&error))?;
        Ok((signed, Arc::clone(entry.id())))
    }
}

fn finish(outcome: Result<(), Status>, issued: impl FnOnce() -> Option<IssuedSvid>) -> Item {
    match outcome {
        Ok(()) => Item {
            status: Some(status::item_ok()),
            svid: issued().as_ref().map(convert::svid_to_wire),
        },
        Err(status) => Item {
            status: Some(status::item(&status)),
            svid: None,
        },
    }
}

fn only_id(trust_domain: &TrustDomain, csr: &CertificateRequest) -> Result<SpiffeId, Status> {
    let uri = match csr.uris.as_slice() {
        [] => return Err(Status::invalid_argument("CSR URI SAN is required")),
        [uri] => uri,
        _ => return Err(Status::invalid_argument("only one URI SAN is expected")),
    };
    let invalid =
        |error: &(dyn std::error::Error + 'static)| status::invalid("CSR URI SAN is invalid", error);
    let id = SpiffeId::parse(uri).map_err(|error| invalid(&error))?;
    let wire = types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().into(),
    };
    convert::workload_id(trust_domain, Some(&wire)).map_err(|error| invalid(&error))
}

/// Nobody becomes the second person by minting an ID of hers.
fn check_mintable(id: &SpiffeId, withheld: &HashSet<SpiffeId>) -> Result<(), Status> {
    if withheld.contains(id) {
        return Err(Status::permission_denied(
            "an ID of `admin_ids` is not minted where `host_approvals` is 2; register an entry for it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_withheld_is_not_minted() {
        let id = |path: &str| SpiffeId::parse(path).unwrap();
        let withheld = HashSet::from([id("spiffe://td/admin")]);
        let refused = check_mintable(&id("spiffe://td/admin"), &withheld).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(check_mintable(&id("spiffe://td/db"), &withheld).is_ok());
        assert!(check_mintable(&id("spiffe://td/admin"), &HashSet::new()).is_ok());
    }
}
