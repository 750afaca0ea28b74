//! `localauthority`.

use clap::{Args, Subcommand};
use proto::spire::api::server::localauthority::v1::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState, GetJwtAuthorityStateRequest,
    GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest, PrepareX509AuthorityRequest,
    RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest, TaintJwtAuthorityRequest,
    TaintX509AuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use svid::Timestamp;

use super::{CommandError, Common, output::facts};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Authorities that sign JWT-SVIDs.
    #[command(subcommand)]
    Jwt(Action),
    /// Authorities that sign X509-SVIDs.
    #[command(subcommand)]
    X509(Action),
}

/// To replace an authority by force: prepare, activate, taint the old one, wait until SVIDs are replaced, revoke it.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Lets the prepared authority sign, as soon as the agents have it; 12 seconds at most.
    Activate(One),
    /// Makes and publishes the authority that will sign next.
    Prepare(All),
    /// Removes a tainted authority from the bundle: what it signed is worth nothing from then on.
    Revoke(One),
    /// Shows which authority signs, which will, and which did last.
    Show(All),
    /// Has everything replaced that an old authority signed.
    Taint(One),
}

#[derive(Args, Debug)]
pub(super) struct All {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct One {
    /// The authority: subject key identifier in hex, or key ID.
    #[arg(long, value_name = "ID")]
    authority_id: String,
    #[command(flatten)]
    common: Common,
}

/// Makes a call of the service, and prints the authority in its answer below what it `says`.
macro_rules! order {
    ($common:expr, $method:ident, $request:expr, $name:literal, $says:literal, $field:ident) => {{
        let (common, request) = ($common, $request);
        let answer = common
            .call(async |client| {
                Ok(LocalAuthorityClient::new(client)
                    .$method(request)
                    .await?
                    .into_inner())
            })
            .await?;
        let name = concat!("spire.api.server.localauthority.v1.", $name, "Response");
        common
            .output
            .print(name, &answer, || text($says, answer.$field.as_ref()))
    }};
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Jwt(action) => jwt(action).await,
            Self::X509(action) => x509(action).await,
        }
    }
}

async fn jwt(action: Action) -> Result<(), CommandError> {
    match action {
        Action::Activate(One { authority_id, common }) => {
            let request = ActivateJwtAuthorityRequest { authority_id };
            order!(
                common,
                activate_jwt_authority,
                request,
                "ActivateJWTAuthority",
                "Activated JWT authority:",
                activated_authority
            )
        }
        Action::Prepare(All { common }) => {
            let request = PrepareJwtAuthorityRequest {};
            order!(
                common,
                prepare_jwt_authority,
                request,
                "PrepareJWTAuthority",
                "Prepared JWT authority:",
                prepared_authority
            )
        }
        Action::Revoke(One { authority_id, common }) => {
            let request = RevokeJwtAuthorityRequest { authority_id };
            order!(
                common,
                revoke_jwt_authority,
                request,
                "RevokeJWTAuthority",
                "Revoked JWT authority:",
                revoked_authority
            )
        }
        Action::Show(All { common }) => {
            let request = GetJwtAuthorityStateRequest {};
            let states = common
                .call(async |client| {
                    Ok(LocalAuthorityClient::new(client)
                        .get_jwt_authority_state(request)
                        .await?
                        .into_inner())
                })
                .await?;
            let name = "spire.api.server.localauthority.v1.GetJWTAuthorityStateResponse";
            common.output.print(name, &states, || {
                show("JWT", [&states.active, &states.prepared, &states.old])
            })
        }
        Action::Taint(One { authority_id, common }) => {
            let request = TaintJwtAuthorityRequest { authority_id };
            order!(
                common,
                taint_jwt_authority,
                request,
                "TaintJWTAuthority",
                "Tainted JWT authority:",
                tainted_authority
            )
        }
    }
}

async fn x509(action: Action) -> Result<(), CommandError> {
    match action {
        Action::Activate(One { authority_id, common }) => {
            let request = ActivateX509AuthorityRequest { authority_id };
            order!(
                common,
                activate_x509_authority,
                request,
                "ActivateX509Authority",
                "Activated X.509 authority:",
                activated_authority
            )
        }
        Action::Prepare(All { common }) => {
            let request = PrepareX509AuthorityRequest {};
            order!(
                common,
                prepare_x509_authority,
                request,
                "PrepareX509Authority",
                "Prepared X.509 authority:",
                prepared_authority
            )
        }
        Action::Revoke(One { authority_id, common }) => {
            let request = RevokeX509AuthorityRequest { authority_id };
            order!(
                common,
                revoke_x509_authority,
                request,
                "RevokeX509Authority",
                "Revoked X.509 authority:",
                revoked_authority
            )
        }
        Action::Show(All { common }) => {
            let request = GetX509AuthorityStateRequest {};
            let states = common
                .call(async |client| {
                    Ok(LocalAuthorityClient::new(client)
                        .get_x509_authority_state(request)
                        .await?
                        .into_inner())
                })
                .await?;
            let name = "spire.api.server.localauthority.v1.GetX509AuthorityStateResponse";
            common.output.print(name, &states, || {
                show("X.509", [&states.active, &states.prepared, &states.old])
            })
        }
        Action::Taint(One { authority_id, common }) => {
            let request = TaintX509AuthorityRequest { authority_id };
            order!(
                common,
                taint_x509_authority,
                request,
                "TaintX509Authority",
                "Tainted X.509 authority:",
                tainted_authority
            )
        }
    }
}

fn show(kind: &str, states: [&Option<AuthorityState>; 3]) -> String {
    let [active, prepared, old] = states.map(|state| state.as_ref());
    let parts = [("Active", active), ("Prepared", prepared), ("Old", old)];
    let parts = parts.map(|(what, state)| text(&format!("{what} {kind} authority:"), state));
    parts.join("\n")
}

fn text(says: &str, state: Option<&AuthorityState>) -> String {
    let Some(state) = state else {
        return format!("{says}\n  none\n");
    };
    let mut told = vec![
        ("  Authority ID", state.authority_id.clone()),
        ("  Expires at", Timestamp::from_unix(state.expires_at).to_string()),
    ];
    let root = &state.upstream_authority_subject_key_id;
    if !root.is_empty() {
        told.push(("  Upstream authority", root.clone()));
    }
    let facts = facts(&told);
    format!("{says}\n{facts}")
}
