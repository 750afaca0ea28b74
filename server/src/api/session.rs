//! The agent session: changes are pushed as they happen, and acknowledged.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use edge::{Clock, metrics::Histogram};
use futures::Stream;
use plugin_api::{Context, Finding, HostEvent, NodeAttestor, SessionBinding, Staleness};
use prost::Message;
use proto::plastron::{
    agent::v1::{
        AgentMessage, Answer, Crls, KnownEntry, Open, ServerMessage, Update, Welcome, Withdrawal,
        agent_message::Message as FromAgent, agent_session_server::AgentSession,
        server_message::Message as ToAgent,
    },
    attest::v1::Evidence,
};
use svid::Timestamp;
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream};
use tracing::info;

use super::{
    Connection,
    connection::OnConnection,
    entry::wire,
    gate,
    limit::Limiter,
    outlived::{Outlived, Turn},
    refusals::Refusals,
    rounds::{Rounds, RoundsWith},
    sealing::sealing,
    status,
    verdicts::Verdicts,
};
use crate::{
    authorize::Presented,
    ca::Crl,
    convert,
    journal::Record,
    meters::Meters,
    registry::{Agent, EntryId, Registry, Snapshot, authorized_entries, changes, host_changes},
    sessions::{Ended, Session, Sessions},
};

pub(super) struct SessionService {
    pub(super) registry: Registry,
    pub(super) attestors: Vec<Arc<dyn NodeAttestor>>,
    pub(super) sessions: Sessions,
    pub(super) meters: Meters,
    pub(super) verdicts: Verdicts,
    /// How often one source may give evidence, and what of it that was refused goes to the audit trail: that of
    /// attestations.
    pub(super) attest_limit: Limiter,
    pub(super) refusals: Refusals,
    /// Logs that may be appraised at once.
    pub(super) appraisals: Arc<Semaphore>,
    /// From one question to the next, at most.
    pub(super) evidence_interval: Duration,
    pub(super) clock: Clock,
}

/// How long an agent may take to say what it knows.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Most entries in one update.
const UPDATE: usize = 500;
/// Most entries that an agent may say it knows.
const MAX_KNOWN: usize = 100_000;
/// Most revisions that an agent may owe an acknowledgement for.
const MAX_OWED: usize = 10_000;

#[async_trait]
impl AgentSession for SessionService {
    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<BoxStream<ServerMessage>>, Status> {
        let caller = gate::caller(&request)?;
        let agent = Arc::clone(
            caller
                .agent()
                .ok_or_else(|| status::bug("session without agent"))?,
        );
        let connection = gate::connection(&request)?;
        let opening = connection
            .begin_opening()
            .ok_or_else(|| Status::failed_precondition("a connection opens one session at a time"))?;
        let mut messages = request.into_inner();
        let mut open = receive_open(&mut messages).await?;
        if let Some(evidence) = open.evidence.take() {
            self.attest_limit.check(connection.address(), 1)?;
            self.resume(&agent, &connection, &evidence).await?;
        }
        // It rests on the SVID that the agent shows here, whichever it was given since.
        let svid = match connection.presented() {
            Presented::Proven(svid) => svid,
            Presented::Svid(svid) if agent.host.is_none() => svid,
            _ => return Err(status::must_reattest()),
        };
        self.note_version(&agent, &open).await?;
        let session = self.sessions.open(Arc::clone(&agent.path)).await;
        info!(agent_path = %agent.path, known_entries = open.known.len(), "Agent session opened");
        let welcome = self.welcome(&agent);
        let rounds = self.rounds(&agent, &connection);
        let conversation = Conversation {
            registry: self.registry.clone(),
            clock: self.clock,
            ends_at: svid.not_after,
            serial: svid.serial.clone(),
            path: Arc::clone(&agent.path),
            messages,
            session,
            sent: open.known.into_iter().map(known).collect(),
            sent_bundle: 0,
            sent_crls: Vec::new(),
            owed: BTreeMap::new(),
            push: self.meters.push.clone(),
            rounds: rounds.map(|rounds| rounds.told(welcome.sealing.clone())),
            outlived: None,
            queue: vec![ToAgent::Welcome(welcome)],
            is_due: true,
            is_over: false,
            _on_connection: connection.hold(),
        };
        drop(opening);
        Ok(Response::new(Box::pin(stream(conversation))))
    }
}

impl SessionService {
    /// Takes the evidence with which a session opens on a connection where the host did not attest.
    async fn resume(
        &self,
        agent: &Agent,
        connection: &Connection,
        evidence: &Evidence,
    ) -> Result<(), Status> {
        let arrived = Instant::now();
        let Presented::Svid(svid) = connection.presented().clone() else {
            return Err(Status::failed_precondition(
                "the host attested on this connection; it needs no evidence",
            ));
        };
        let exporter = connection.take_exporter(arrived);
        let exporter = exporter.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let attestor = self
            .attestors
            .iter()
            .find(|attestor| attestor.name() == agent.attestation_type);
        let attestor = attestor.ok_or_else(status::must_reattest)?;
        let decided = {
            let snapshot = self.registry.snapshot();
            let context = Context {
                now: self.clock.now(),
                trust_domain: &snapshot.trust_domain,
                records: &*snapshot,
                exporter: Some(exporter),
                csr: &[],
                nonce: edge::random(),
            };
            attestor.resume(&evidence.encode_to_vec(), &agent.path, &context)
        };
        let address = connection.address_text();
        match decided {
            Ok(claim) => {
                let (path, host, hello) = (Arc::clone(&agent.path), Arc::clone(&claim.id), claim.hello);
                // As in attestations: before the host is verified.
                self.verdicts.pulses.note(&host);
                let noted = move |draft: &mut _| {
                    host_changes::claim(draft, claim, HostEvent::Answered, &path, &address)
                };
                let noted = self
                    .registry
                    .change(noted)
                    .await
                    .map_err(|error| status::not_changed(&error))?;
                noted.map_err(|error| status::not_recorded(error.into()))?;
                connection.prove(svid, Some(hello));
                Ok(())
            }
            Err(refusal) => {
                self.meters.refusals.count([refusal.code]);
                let reason = edge::Chain(&*refusal.source).to_string();
                info!(agent_path = %agent.path, caller_addr = address, reject = refusal.code, error = reason,
                    "Session evidence refused");
                let source = connection.source();
                if let Some(unrecorded) = self.refusals.note(source, refusal.code, Instant::now()) {
                    let record = Record::new("session_evidence_refused", &address)
                        .with("agent_path", &agent.path)
                        .with("reject", &refusal.code)
                        .with("reason", &reason)
                        .with("alike_before", &unrecorded);
                    // That the trail can't be written is logged there; the refusal stands.
                    let _unaudited = self.registry.change(move |draft| draft.audit(record)).await;
                }
                let named = agent.host.as_ref();
                self.verdicts.alarm_of(&refusal, named, &address, source).await;
                let condemned = self.verdicts.condemn(&refusal, &address).await;
                condemned.map_err(|error| status::not_changed(&error))?;
                Err(status::unproven(&refusal))
            }
        }
    }

    /// The rounds of a session on this connection, where hosts of its attestor give further evidence.
    fn rounds(&self, agent: &Agent, connection: &Connection) -> Option<Rounds> {
        let (exporter, hello) = connection.session_binding()?;
        let host = Arc::clone(agent.host.as_ref()?);
        let mut attestors = self.attestors.iter();
        let attestor = attestors.find(|attestor| attestor.name() == agent.attestation_type)?;
        let snapshot = self.registry.snapshot();
        let appraised = snapshot.hosts.get(&host)?.appraised.as_ref()?;
        let binding = SessionBinding {
            exporter,
            hello,
            clock: appraised.standing.clock,
            grown: None,
        };
        let with = RoundsWith {
            attestor: Arc::clone(attestor),
            verdicts: self.verdicts.clone(),
            appraisals: Arc::clone(&self.appraisals),
            interval: self.evidence_interval,
            clock: self.clock,
        };
        let address = connection.address_text();
        Some(Rounds::new(with, Arc::clone(&agent.path), host, address, binding))
    }

    fn welcome(&self, agent: &Agent) -> Welcome {
        let snapshot = self.registry.snapshot();
        let host = agent.host.as_ref().and_then(|id| snapshot.hosts.get(id));
        let name = host.and_then(|host| host.endorsement_key_name());
        Welcome {
            endorsement_key_name: name.map(|name| name.as_bytes().into()).unwrap_or_default(),
            sealing: host.and_then(|host| sealing(host, &snapshot)),
        }
    }

    async fn note_version(&self, agent: &Agent, open: &Open) -> Result<(), Status> {
        if open.agent_version.len() > Agent::MAX_VERSION {
            return Err(Status::invalid_argument(
                "agent version is too long (max 255 characters)",
            ));
        }
        if open.agent_version == agent.version {
            return Ok(());
        }
        let (path, version) = (Arc::clone(&agent.path), open.agent_version.clone());
        let noted = self
            .registry
            .change(move |draft| changes::note_version(draft, &path, &version))
            .await;
        noted.map(drop).map_err(|error| status::not_changed(&error))
    }
}

async fn receive_open(messages: &mut Streaming<AgentMessage>) -> Result<Open, Status> {
    let received = timeout(OPEN_WITHIN, messages.message()).await;
    let message = received.map_err(|_| Status::deadline_exceeded("no message from agent in 10 s"))??;
    match message.and_then(|message| message.message) {
        Some(FromAgent::Open(open)) => check_open(&open).map(|()| open),
        _ => Err(Status::invalid_argument("a session begins with `open`")),
    }
}

fn check_open(open: &Open) -> Result<(), Status> {
    if open.known.len() > MAX_KNOWN {
        return Err(Status::invalid_argument(format!(
            "more than {MAX_KNOWN} known entries; name none, and everything is sent"
        )));
    }
    Ok(())
}

fn replaced() -> Status {
    Status::aborted("session was replaced by a newer one")
}

async fn due(rounds: Option<&Rounds>) {
    match rounds {
        Some(rounds) => rounds.due().await,
        None => std::future::pending().await,
    }
}

fn known(entry: KnownEntry) -> (EntryId, i64) {
    (entry.id.into(), entry.revision_number)
}

/// The server's side of a session.
struct Conversation {
    registry: Registry,
    clock: Clock,
    path: Arc<str>,
    /// When the SVID ends that the session rests on.
    ends_at: Timestamp,
    serial: svid::x509::SerialNumber,
    messages: Streaming<AgentMessage>,
    session: Session,
    /// The entries that the agent has, by revision.
    sent: BTreeMap<EntryId, i64>,
    /// The bundle that the agent was sent last.
    sent_bundle: u64,
    /// The CRLs that the agent was sent last.
    sent_crls: Vec<Arc<Crl>>,
    /// For each revision that is not acknowledged yet, the bundle that it carried, and since when.
    owed: BTreeMap<u64, (u64, Instant)>,
    push: Histogram,
    /// New evidence, of hosts that give it.
    rounds: Option<Rounds>,
    /// The agent left for another session.
    outlived: Option<Outlived>,
    /// What is to be said next, last first.
    queue: Vec<ToAgent>,
    /// Something may have changed since it was looked at last.
    is_due: bool,
    is_over: bool,
    _on_connection: OnConnection,
}

fn stream(conversation: Conversation) -> impl Stream<Item = Result<ServerMessage, Status>> + Send {
    futures::stream::try_unfold(conversation, Conversation::advance)
}

type Said = Option<(ServerMessage, Conversation)>;

impl Conversation {
    async fn advance(mut self) -> Result<Said, Status> {
        loop {
            if let Some(message) = self.queue.pop() {
                return Ok(Some((
                    ServerMessage {
                        message: Some(message),
                    },
                    self,
                )));
            }
            if self.is_over {
                return Ok(None);
            }
            if self.owed.len() > MAX_OWED {
                return Err(Status::aborted("updates were not acknowledged"));
            }
            if std::mem::take(&mut self.is_due) {
                self.look();
                continue;
            }
            self.wait().await?;
        }
    }

    /// Waits for whatever comes first: a change, an acknowledgement, the end.
    async fn wait(&mut self) -> Result<(), Status> {
        if self.outlived.is_some() {
            return self.outlive().await;
        }
        let left = self.ends_at.since(self.clock.now());
        tokio::select! {
            () = self.session.woken() => self.is_due = true,
            ended = self.session.ended() => return self.end(ended),
            () = due(self.rounds.as_ref()) => {
                let question = self.rounds.as_mut().and_then(Rounds::ask);
                self.queue.extend(question.map(ToAgent::Question));
            }
            message = self.messages.message() => match message?.map(|message| message.message) {
                None => self.is_over = true,
                Some(Some(FromAgent::Ack(ack))) => self.acknowledged(ack.revision).await,
                Some(Some(FromAgent::Answer(answer))) => self.answered(answer).await?,
                Some(_) => return Err(Status::invalid_argument("unexpected message in session")),
            },
            () = tokio::time::sleep(left.min(LOOK)) => {
                if self.ends_at <= self.clock.now() {
                    return Err(Status::unauthenticated("the SVID that the session rests on has ended"));
                }
            }
        }
        Ok(())
    }

    /// A session whose host gives evidence is not closed when another one replaces it: whoever stays is to be seen.
    fn end(&mut self, ended: Ended) -> Result<(), Status> {
        if ended == Ended::Unresponsive {
            return Err(Status::aborted("bundle was not acknowledged in time"));
        }
        if self.rounds.is_none() {
            return Err(replaced());
        }
        let now = tokio::time::Instant::now();
        self.outlived.get_or_insert(Outlived::left(now)).replace(now);
        Ok(())
    }

    /// Waits in a session that the agent left: nothing is pushed any more.
    async fn outlive(&mut self) -> Result<(), Status> {
        let now = tokio::time::Instant::now();
        let (Some(outlived), Some(rounds)) = (&mut self.outlived, &mut self.rounds) else {
            self.is_over = true;
            return Ok(());
        };
        let is_replaced = outlived.replaced_for(now).is_some();
        let until = match outlived.turn(now) {
            Turn::Ask => {
                outlived.ask();
                self.queue.extend(rounds.ask_anew().map(ToAgent::Question));
                return Ok(());
            }
            Turn::End if is_replaced => return Err(replaced()),
            Turn::End => {
                self.is_over = true;
                return Ok(());
            }
            Turn::Wait(until) => until,
        };
        tokio::select! {
            ended = self.session.ended(), if !is_replaced => return self.end(ended),
            message = self.messages.message() => match message?.map(|message| message.message) {
                None => self.is_over = true,
                Some(Some(FromAgent::Answer(answer))) if outlived.is_asked() => {
                    if rounds.overhear(answer).await? {
                        let since = outlived.replaced_for(tokio::time::Instant::now());
                        rounds.alarm(since.unwrap_or_default()).await;
                        return Err(replaced());
                    }
                }
                // It answers and acknowledges what came before.
                Some(_) => {}
            },
            () = tokio::time::sleep_until(until) => {}
        }
        Ok(())
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), Status> {
        if let Some(rounds) = &mut self.rounds {
            let question = rounds.hear(answer).await?;
            self.queue.extend(question.map(ToAgent::Question));
        }
        Ok(())
    }

    async fn acknowledged(&mut self, revision: u64) {
        let rest = self.owed.split_off(&(revision.saturating_add(1)));
        let covered = std::mem::replace(&mut self.owed, rest);
        for (_, since) in covered.values() {
            self.push.observe(since.elapsed());
        }
        if let Some(sequence) = covered.into_values().map(|(sequence, _)| sequence).max() {
            self.session.acknowledged(sequence).await;
        }
    }

    /// Queues what the agent does not have yet.
    fn look(&mut self) {
        let snapshot = self.registry.snapshot();
        let standing = snapshot
            .agents
            .get(&self.path)
            .filter(|agent| !agent.banned)
            .cloned();
        let Some(agent) = standing else {
            let banned = snapshot.agents.contains_key(&self.path);
            self.withdraw(if banned { "agent_banned" } else { "agent_evicted" });
            return;
        };
        let is_ours = agent.current.serial == self.serial
            || agent.next.as_ref().is_some_and(|next| next.serial == self.serial);
        if !is_ours {
            self.withdraw_silently();
            return;
        }
        let host = agent.host.as_ref().and_then(|id| snapshot.hosts.get(id));
        let finding = host.map(|host| &host.verdict.finding);
        match (finding.and_then(loss), finding) {
            (Some(code), _) => self.withdraw(code),
            // It keeps what it has, and gets nothing new before it shows what it is.
            (None, Some(Finding::Stale(_))) => {}
            (None, _) => self.queue_updates(&snapshot, &agent),
        }
    }

    fn withdraw(&mut self, code: &str) {
        info!(agent_path = %self.path, code, "Agent lost its standing");
        let reason = "every SVID of this host is void".into();
        self.queue.push(ToAgent::Withdrawal(Withdrawal {
            code: code.into(),
            reason,
        }));
        self.is_over = true;
    }

    /// The agent attested anew and goes on elsewhere.
    fn withdraw_silently(&mut self) {
        if self.rounds.is_none() {
            self.is_over = true;
            return;
        }
        let now = tokio::time::Instant::now();
        self.outlived.get_or_insert(Outlived::left(now));
    }

    fn queue_updates(&mut self, snapshot: &Snapshot, agent: &Agent) {
        let authorized = authorized_entries(snapshot, agent, self.clock.now());
        let mut gone = std::mem::take(&mut self.sent);
        let mut changed = Vec::new();
        for entry in authorized {
            if gone.remove(entry.id()) != Some(entry.revision) {
                changed.push(wire(&snapshot.trust_domain, &entry, None));
            }
            self.sent.insert(Arc::clone(entry.id()), entry.revision);
        }
        let bundle = (self.sent_bundle != snapshot.authorities.sequence)
            .then(|| convert::bundle_to_wire(&snapshot.authorities.bundle(snapshot.trust_domain.clone())));
        self.sent_bundle = snapshot.authorities.sequence;
        let crls = self.changed_crls(snapshot);
        if changed.is_empty() && gone.is_empty() && bundle.is_none() && crls.is_none() {
            return;
        }
        self.owed
            .insert(snapshot.revision, (self.sent_bundle, Instant::now()));
        let removed = gone.into_keys().map(|id| id.as_ref().to_owned()).collect();
        let first = Update {
            revision: snapshot.revision,
            bundle,
            crls,
            removed_entry_ids: removed,
            ..Update::default()
        };
        self.queue = updates(first, changed);
    }

    /// The CRLs, if the agent has others.
    fn changed_crls(&mut self, snapshot: &Snapshot) -> Option<Crls> {
        let newest: Vec<_> = snapshot.crls.values().cloned().collect();
        let is_same = |(sent, newest): (&Arc<Crl>, &Arc<Crl>)| Arc::ptr_eq(sent, newest);
        if newest.len() == self.sent_crls.len() && self.sent_crls.iter().zip(&newest).all(is_same) {
            return None;
        }
        let der = newest.iter().map(|crl| crl.der.clone()).collect();
        self.sent_crls = newest;
        Some(Crls { der })
    }
}

/// The code of a finding by which everything that was signed for a host is void.
fn loss(finding: &Finding) -> Option<&'static str> {
    match finding {
        Finding::Quarantined(_) => Some("host_quarantined"),
        // It attests anew: what it has is revoked.
        Finding::Stale(Staleness::Lost) => Some("host_lost"),
        Finding::Stale(Staleness::Replaced) => Some("host_tpm_replaced"),
        Finding::Stale(_) | Finding::Verified => None,
    }
}

/// The `first` update, which says everything else, and further ones for as many entries, last first. The bundle comes
/// in the first: what entries bring may need it.
fn updates(first: Update, mut changed: Vec<proto::spire::api::types::Entry>) -> Vec<ToAgent> {
    let revision = first.revision;
    let mut queue = Vec::new();
    while changed.len() > UPDATE {
        let entries = changed.split_off(changed.len() - UPDATE);
        let more = !queue.is_empty();
        queue.push(ToAgent::Update(Update {
            revision,
            entries,
            more,
            ..Update::default()
        }));
    }
    let more = !queue.is_empty();
    queue.push(ToAgent::Update(Update {
        entries: changed,
        more,
        ..first
    }));
    queue
}

/// Longest sleep: a clock that is set is noticed after that. Thousands of sessions sleep.
const LOOK: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::{super::silence::silent, *};

    #[test]
    fn a_host_whose_svids_are_revoked_hears_of_it() {
        assert_eq!(loss(&Finding::Stale(Staleness::Lost)), Some("host_lost"));
        let replaced = Finding::Stale(Staleness::Replaced);
        assert_eq!(loss(&replaced), Some("host_tpm_replaced"));
        for quiet in [Staleness::New, Staleness::Released, Staleness::Silent] {
            assert_eq!(loss(&Finding::Stale(quiet)), None);
        }
        assert_eq!(loss(&Finding::Verified), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_opens_nothing_is_given_up_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let refused = receive_open(&mut silent()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    }

    #[test]
    fn an_agent_names_so_many_entries_at_most() {
        let of = |count| Open {
            known: vec![KnownEntry::default(); count],
            ..Open::default()
        };
        assert!(check_open(&of(MAX_KNOWN)).is_ok());
        let refused = check_open(&of(MAX_KNOWN + 1)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn large_updates_come_in_parts_bundle_first() {
        let entries = vec![Default::default(); 2 * UPDATE + 1];
        let first = Update {
            revision: 7,
            bundle: Some(Default::default()),
            removed_entry_ids: vec!["gone".into()],
            ..Update::default()
        };
        let mut queue = updates(first, entries);
        let mut parts = Vec::new();
        while let Some(ToAgent::Update(update)) = queue.pop() {
            assert_eq!(update.revision, 7);
            parts.push((
                update.bundle.is_some(),
                update.entries.len(),
                update.removed_entry_ids.len(),
                update.more,
            ));
        }
        assert_eq!(
            parts,
            [
                (true, 1, 1, true),
                (false, UPDATE, 0, true),
                (false, UPDATE, 0, false)
            ]
        );
    }
}
