//! What the verification of evidence costs by itself: an attestor in this very process, and no network, disk or TPM.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use attest::{
    PcrSelection,
    event_log::EventLog,
    policy::{Evidence, Generation, Generations, Learned, Stage, learn},
};
use node_tpm::Config;
use plugin_api::{NodeAttestor, NodeProver, Round, SessionBinding, Step};
use rustix::time::{ClockId, clock_gettime};
use swtpm_tests::{
    parties::{Machine, Server, WIRE, captured, claim, replayed},
    vendor::Ca,
};

use crate::{floor::Floor, measure::Plan};

/// A log of about 50 KB, of a real machine.
const LOG: &str = "keylime-binary_bios_measurements";
const TIMES: u32 = 1000;

/// Measures what an attestor needs.
pub(crate) fn run(plan: &Plan, floor: &Floor) -> Result<()> {
    if !plan.wants("verify") {
        return Ok(());
    }
    let log = captured(LOG);
    let mut machine = Machine::of(&log);
    let mut server = Server::new(&Config::default());
    server.enrol("host-1", machine.ek_hash());
    let name = format!("verify, all, log of {} KB", log.len() / 1000);
    report(&name, each(|| whole(&server, &mut machine))?, 700, floor);
    let (attested, _) = server.attest(&mut machine);
    report(
        "verify, nothing new",
        each(|| known(&server, &mut machine))?,
        120,
        floor,
    );
    let claim = claim(&attested);
    let mut binding = SessionBinding {
        exporter: WIRE.exporter,
        hello: claim.hello,
        clock: claim.appraised.standing.clock,
        grown: None,
    };
    // What it quotes from now on has a later clock than what was noted.
    machine.begin(WIRE);
    let took = each(|| round(&server, &mut machine, &mut binding))?;
    report("verify, round of a session", took, 120, floor);
    let (server, mut machine, _roots) = as_in_production(&log)?;
    let name = "verify, all, certificate and policy";
    report(name, each(|| whole(&server, &mut machine))?, 700, floor);
    Ok(())
}

/// A host that is known by the chain of its endorsement certificate, and held to an enforced policy; and the folder with
/// the root.
fn as_in_production(log: &[u8]) -> Result<(Server, Machine, tempfile::TempDir)> {
    let root = Ca::root("maker", |_| ());
    let roots = tempfile::tempdir()?;
    std::fs::write(roots.path().join("root.der"), &root.der)?;
    let intermediate = root.issue("factory", |_| ());
    std::fs::write(roots.path().join("intermediate.der"), &intermediate.der)?;
    let machine = Machine::of(log);
    machine.endorse(&intermediate, |_| ());
    let mut server = Server::new(&Config {
        ek_roots: Some(roots.path().into()),
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    let parsed = EventLog::parse(log)?;
    let values = replayed(log).select(&PcrSelection::standard());
    let evidence = Evidence::recorded(&values, &parsed)?;
    let policy = learn(&"golden".parse()?, 1, &evidence, Learned::usual_pins()).policy;
    let enforced = Generation::new(policy, Stage::Enforced);
    server.policies = vec![Arc::new(Generations::new(vec![enforced])?)];
    Ok((server, machine, roots))
}

/// An attestation of a host that is enrolled and was never seen: credential, two quotes, and the log.
fn whole(server: &Server, machine: &mut Machine) -> Result<Duration> {
    let first = machine.begin(WIRE);
    let (mut step, mut took) = timed(|| server.start(&first, WIRE))?;
    for number in 2.. {
        match step.map_err(|refusal| anyhow!("refused: {}", refusal.code))? {
            Step::Challenge { send, next } => {
                let answer = machine.prover.answer(&send)?;
                let more;
                (step, more) = timed(|| next.handle(&answer, &server.context(WIRE, number)))?;
                took += more;
            }
            Step::Done(_) => return Ok(took),
            Step::Newcomer(_) => break,
        }
    }
    bail!("the host is not enrolled")
}

/// An attestation of a host whose PCRs a log on record explains.
fn known(server: &Server, machine: &mut Machine) -> Result<Duration> {
    let first = machine.begin(WIRE);
    match timed(|| server.start(&first, WIRE))? {
        (Ok(Step::Done(_)), took) => Ok(took),
        _ => bail!("the host is not known"),
    }
}

/// A round that finds nothing new.
fn round(server: &Server, machine: &mut Machine, binding: &mut SessionBinding) -> Result<Duration> {
    let host = server.hosts.first().context("no host")?;
    let context = server.context(WIRE, 1);
    let (asked, took) = timed(|| server.attestor.begin_round(host, binding, &context))?;
    let asked = asked.context("no question")?;
    let answer = machine.prover.answer_round(&WIRE.exporter, &asked.send)?;
    match timed(|| asked.next.handle(&answer, &context))? {
        (Ok(Round::Unchanged(clock)), more) => {
            binding.clock = clock;
            Ok(took + more)
        }
        _ => bail!("something is new"),
    }
}

/// What it takes on average, after as much again to warm up.
fn each(mut act: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for number in 0..2 * TIMES {
        let took = act()?;
        if number >= TIMES {
            all += took;
        }
    }
    Ok(all / TIMES)
}

/// What comes of `act`, and this thread's processor time that it took.
fn timed<T>(act: impl FnOnce() -> T) -> Result<(T, Duration)> {
    let begun = now()?;
    let done = act();
    Ok((done, now()?.saturating_sub(begun)))
}

fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

fn report(name: &str, took: Duration, target: u32, floor: &Floor) {
    let micros = took.as_secs_f64() * 1e6;
    println!(
        "{name:34} {micros:8.1} µs CPU (target {target}: {}; {:.1} × verify)",
        if micros <= f64::from(target) {
            "met"
        } else {
            "MISSED"
        },
        took.as_secs_f64() / floor.verify.as_secs_f64()
    );
}
