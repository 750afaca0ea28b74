//! JWT-SVIDs, as the SVID service issues them.

use std::time::Duration;

use proto::spire::api::{
    server::svid::v1::{MintJwtsvidRequest, NewJwtsvidRequest},
    types::Jwtsvid,
};
use svid::{SpiffeId, jwt::Audience};
use tonic::Status;

use super::{status, svid::SvidService};
use crate::{
    ca::IssuedJwt,
    convert, issue,
    journal::Record,
    registry::{Agent, is_authorized},
};

impl SvidService {
    /// A token that an administrator asks for.
    pub(super) async fn mint_jwt(
        &self,
        request: MintJwtsvidRequest,
        actor: &str,
    ) -> Result<IssuedJwt, Status> {
        let trust_domain = self.registry.snapshot().trust_domain.clone();
        let id = convert::workload_id(&trust_domain, request.id.as_ref());
        let id = id.map_err(|error| status::invalid("invalid SPIFFE ID", &error))?;
        let audience = audience(request.audience)?;
        let ttl =
            u64::try_from(request.ttl).map_err(|_| Status::invalid_argument("ttl must not be negative"))?;
        let ttl = (ttl > 0).then(|| Duration::from_secs(ttl));
        let mut admitted = self.admission.turn(1).await?;
        let signing = self.ca.jwt_signing().map_err(|error| status::no_token(&error))?;
        let occasion = self.ca.token_occasion(&signing);
        let claims = issue::minted_jwt(id, audience, ttl, &self.jwt_profile, &occasion);
        let signed = signing.sign(claims).map_err(|error| status::no_token(&error))?;
        admitted.signed();
        let record = Record::new("jwt_svid_minted", &actor);
        let released = self.ca.release_jwt(signed, record).await;
        released.map_err(|error| status::no_token(&error))
    }

    /// A token for a workload on the host of `agent`.
    pub(super) async fn new_jwt(&self, agent: &Agent, request: NewJwtsvidRequest) -> Result<Jwtsvid, Status> {
        if request.entry_id.is_empty() {
            return Err(Status::invalid_argument("missing entry ID"));
        }
        let audience = audience(request.audience)?;
        let mut admitted = self.admission.turn(1).await?;
        let snapshot = self.registry.snapshot();
        let entry = is_authorized(&snapshot, agent, &request.entry_id, self.clock.now())
            .ok_or_else(|| Status::not_found("entry not found or not authorized"))?;
        let id = SpiffeId::new(snapshot.trust_domain.clone(), &entry.spiffe_id.path)
            .map_err(|error| status::invalid("entry has malformed SPIFFE ID", &error))?;
        let signing = self.ca.jwt_signing().map_err(|error| status::no_token(&error))?;
        let occasion = self.ca.token_occasion(&signing);
        let claims = issue::workload_jwt(id, &entry, agent, audience, &self.jwt_profile, &occasion);
        let signed = signing.sign(claims).map_err(|error| status::no_token(&error))?;
        admitted.signed();
        let agent_id = format!("spiffe://{}{}", snapshot.trust_domain, agent.path);
        let record = Record::new("jwt_svid_issued", &agent_id).with("entry_id", entry.id());
        let released = self.ca.release_jwt(signed, record).await;
        let issued = released.map_err(|error| status::no_token(&error))?;
        Ok(Jwtsvid {
            hint: entry.hint.clone(),
            ..convert::jwt_to_wire(&issued)
        })
    }
}

fn audience(names: Vec<String>) -> Result<Audience, Status> {
    Audience::new(names).map_err(|error| status::invalid("invalid audience", &error))
}

#[cfg(test)]
mod tests;
