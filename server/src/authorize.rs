//! Who may call what: pure decisions from the method, who calls, and what the server knows.

use std::{collections::HashSet, fmt, sync::Arc};

use svid::{SpiffeId, Timestamp, x509::X509Svid};

use crate::registry::{Agent, Snapshot};

/// Who is at the other end, before anything is decided.
#[derive(Clone, Debug)]
pub enum Presented {
    /// Somebody without a certificate.
    Anonymous,
    /// A process on this host, let in by the socket's permissions.
    Local {
        /// Its user.
        uid: u32,
        /// Its number.
        pid: i32,
    },
    /// The holder of a verified SVID, whose host proved itself on this very connection.
    Proven(X509Svid),
    /// The holder of a verified SVID.
    Svid(X509Svid),
}

/// A caller that may make the call at hand. Only [`authorize`] makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    name: CallerName,
    agent: Option<Arc<Agent>>,
    first_use: bool,
    /// Of the verdict on its host, where it has one that counts.
    verdict: Option<u64>,
}

/// Who calls, for logs and the audit trail.
#[derive(Clone, Debug)]
enum CallerName {
    Anonymous,
    Id(SpiffeId),
    Local { uid: u32, pid: i32 },
}

/// Classes of caller that a method is open to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// Holders of an SVID that administers.
    pub admin: bool,
    /// Attested agents.
    pub agent: bool,
    /// Anyone.
    pub anyone: bool,
    /// Holders of an SVID of a downstream entry.
    pub downstream: bool,
    /// Processes on the local socket.
    pub local: bool,
    /// Agents that still have to prove their host on this connection: the method is where they do.
    pub unproven: bool,
}

/// A call is not allowed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// The agent is banned.
    #[error("agent {0} is banned")]
    AgentBanned(SpiffeId),
    /// The agent's SVID has ended.
    #[error("agent {0} SVID is expired")]
    AgentExpired(SpiffeId),
    /// The agent uses an SVID that was replaced.
    #[error("agent {0} SVID was replaced by a newer one")]
    AgentNotActive(SpiffeId),
    /// Nobody of that name attested.
    #[error("agent {0} is not attested")]
    AgentNotAttested(SpiffeId),
    /// An SVID only names an agent whose host proves itself: the proof is missing on this connection.
    #[error("agent {0} has not proven its host on this connection")]
    AgentNotProven(SpiffeId),
    /// The host said what is refused, and an operator has not released it.
    #[error("host of agent {0} is quarantined; an operator runs `plastron-server host release`")]
    HostQuarantined(SpiffeId),
    /// The host has not shown lately that it is what it should be.
    #[error("host of agent {0} gave no good evidence lately")]
    HostStale(SpiffeId),
    /// The caller is of no class that may call.
    #[error("authorization denied for method {0}")]
    Method(String),
    /// The caller's SVID is on a CRL: the agent that it came through lost its standing.
    #[error("SVID of {0} is revoked")]
    Revoked(SpiffeId),
}

impl Denied {
    /// What it is counted as.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AgentBanned(_) => "agent_banned",
            Self::AgentExpired(_) => "agent_expired",
            Self::AgentNotActive(_) => "agent_not_active",
            Self::AgentNotAttested(_) => "agent_not_attested",
            Self::AgentNotProven(_) => "agent_not_proven",
            Self::HostQuarantined(_) => "host_quarantined",
            Self::HostStale(_) => "host_stale",
            Self::Method(_) => "method_not_allowed",
            Self::Revoked(_) => "svid_revoked",
        }
    }
}

impl Caller {
    /// The agent that calls, where the call was made as one.
    #[must_use]
    pub fn agent(&self) -> Option<&Arc<Agent>> {
        self.agent.as_ref()
    }

    /// Looks at the agent again before it is answered: whoever lost its standing while something was signed does not
    /// get it, since the CRL may not have it. So does whoever lost and regained it: the verdict moved.
    ///
    /// # Errors
    ///
    /// It was banned or evicted meanwhile, or the verdict on its host is another one.
    pub fn still_stands(&self, snapshot: &Snapshot) -> Result<(), Denied> {
        let (Some(agent), CallerName::Id(id)) = (&self.agent, &self.name) else {
            return Ok(());
        };
        let known = snapshot.agents.get(&agent.path);
        let known = known.ok_or_else(|| Denied::AgentNotAttested(id.clone()))?;
        if known.banned {
            return Err(Denied::AgentBanned(id.clone()));
        }
        if check_host(agent, true, snapshot, id)? == self.verdict {
            Ok(())
        } else {
            Err(Denied::HostStale(id.clone()))
        }
    }

    /// By which people are told apart: an ID, or a user of this host, in whichever process.
    #[must_use]
    pub fn person(&self) -> String {
        match &self.name {
            CallerName::Local { uid, .. } => format!("local uid={uid}"),
            CallerName::Anonymous | CallerName::Id(_) => self.to_string(),
        }
    }

    /// Whether the agent uses an SVID for the first time: its predecessor is over.
    #[must_use]
    pub fn is_first_use(&self) -> bool {
        self.first_use
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            CallerName::Anonymous => f.write_str("anonymous"),
            CallerName::Id(id) => write!(f, "{id}"),
            CallerName::Local { uid, pid } => write!(f, "local uid={uid} pid={pid}"),
        }
    }
}

/// Decides whether `presented` may call `method`, which is open to `access`.
///
/// # Errors
///
/// It may not; for an agent, the error says what it should do.
pub fn authorize(
    method: &str,
    access: Access,
    presented: &Presented,
    admin_ids: &HashSet<SpiffeId>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Caller, Denied> {
    let denied = || Denied::Method(method.into());
    let permit = |name| Caller {
        name,
        agent: None,
        first_use: false,
        verdict: None,
    };
    match presented {
        Presented::Local { uid, pid } if access.local || access.anyone => {
            Ok(permit(CallerName::Local { uid: *uid, pid: *pid }))
        }
        Presented::Local { .. } => Err(denied()),
        Presented::Anonymous if access.anyone => Ok(permit(CallerName::Anonymous)),
        Presented::Anonymous => Err(denied()),
        Presented::Proven(svid) | Presented::Svid(svid) => {
            let is_agent = is_agent_path(svid.id.path()) && svid.id.is_member_of(&snapshot.trust_domain);
            if is_agent && access.agent {
                let is_proven = matches!(presented, Presented::Proven(_));
                return agent(svid, is_proven, access.unproven, snapshot, now);
            }
            let administers = access.admin && is_admin(svid, admin_ids, snapshot, now);
            if is_agent && administers {
                // An agent that lost its standing administers nothing either.
                let is_proven = matches!(presented, Presented::Proven(_));
                agent(svid, is_proven, false, snapshot, now)?;
            }
            let is_downstream = access.downstream && has_entry(svid, snapshot, now, |entry| entry.downstream);
            if !access.anyone && (administers || is_downstream) && snapshot.is_revoked(&svid.serial) {
                return Err(Denied::Revoked(svid.id.clone()));
            }
            if access.anyone || administers || is_downstream {
                return Ok(permit(CallerName::Id(svid.id.clone())));
            }
            Err(denied())
        }
    }
}

/// `may_prove`: the method is where a host proves itself, or heals.
fn agent(
    svid: &X509Svid,
    is_proven: bool,
    may_prove: bool,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Caller, Denied> {
    let id = || svid.id.clone();
    if svid.not_after < now {
        return Err(Denied::AgentExpired(id()));
    }
    let agent = snapshot
        .agents
        .get(svid.id.path())
        .ok_or_else(|| Denied::AgentNotAttested(id()))?;
    if agent.banned {
        return Err(Denied::AgentBanned(id()));
    }
    let first_use = agent.next.as_ref().is_some_and(|next| next.serial == svid.serial);
    if agent.current.serial != svid.serial && !first_use {
        return Err(Denied::AgentNotActive(id()));
    }
    if agent.host.is_some() && !is_proven && !may_prove {
        return Err(Denied::AgentNotProven(id()));
    }
    let verdict = check_host(agent, !may_prove, snapshot, &svid.id)?;
    Ok(Caller {
        name: CallerName::Id(id()),
        agent: Some(Arc::clone(agent)),
        first_use,
        verdict,
    })
}

/// Looks at the verdict on the agent's host; answers with its generation, where the attestor knows hosts.
fn check_host(
    agent: &Agent,
    has_to_be_fresh: bool,
    snapshot: &Snapshot,
    id: &SpiffeId,
) -> Result<Option<u64>, Denied> {
    let Some(host) = &agent.host else {
        return Ok(None);
    };
    let host = snapshot.hosts.get(host);
    let verdict = &host.ok_or_else(|| Denied::AgentNotAttested(id.clone()))?.verdict;
    if verdict.is_quarantined() {
        return Err(Denied::HostQuarantined(id.clone()));
    }
    if has_to_be_fresh && !verdict.is_verified() {
        return Err(Denied::HostStale(id.clone()));
    }
    Ok(Some(verdict.generation))
}

fn is_agent_path(path: &str) -> bool {
    path.starts_with("/spire/agent/")
}

fn is_admin(svid: &X509Svid, admin_ids: &HashSet<SpiffeId>, snapshot: &Snapshot, now: Timestamp) -> bool {
    now <= svid.not_after
        && (admin_ids.contains(&svid.id) || has_entry(svid, snapshot, now, |entry| entry.admin))
}

fn has_entry(
    svid: &X509Svid,
    snapshot: &Snapshot,
    now: Timestamp,
    is_wanted: impl Fn(&crate::registry::Entry) -> bool,
) -> bool {
    let path = svid.id.shared_path();
    let mut entries = snapshot.entries.with_spiffe_id(&path);
    svid.not_after >= now
        && svid.id.is_member_of(&snapshot.trust_domain)
        && entries.any(|entry| !entry.is_expired(now) && is_wanted(entry))
}

#[cfg(test)]
mod tests;
