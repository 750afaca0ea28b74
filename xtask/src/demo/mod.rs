//! The main job, end to end, on this machine: a host proves itself by its TPM, a program on it gets its SVID, two
//! programs authenticate each other with theirs; a copy of the host's disk gets nothing; and when the host itself is
//! tampered with, its programs lose what they had, and nobody who reads the server's CRL takes it any more.

mod keys;
mod narrate;
mod process;
mod relying;
mod stage;
mod sweeper;
mod tamper;
mod theft;
mod tls;

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use swtpm_tests::Machine;

use self::{narrate::Story, process::Running, stage::Stage};
use crate::{
    packages,
    run::{cargo, root, run},
};

/// `cargo xtask demo`.
///
/// # Errors
///
/// A step failed; the error says which, and what its programs printed last. What was started is ended, and what
/// was written is removed.
pub(crate) fn demo() -> Result<()> {
    let mut story = Story::begin();
    story.step("Packages: build tools, libtss2, swtpm, openssl", || {
        packages::ensure(&[packages::BUILD, packages::DEMO].concat())
    })?;
    story.step("Build: plastron-server, plastron-agent", || {
        run(&mut cargo(&[
            "build", "--locked", "--quiet", "-p", "server", "-p", "agent",
        ]))
    })?;
    let stage = Stage::set()?;
    let machine = story.step(
        "Host: a TPM (swtpm; a CA of its own certifies its EK), booted as a captured ThinkPad log says",
        || Ok(Machine::boot()),
    )?;
    let server = story.step("Server: starts, makes its keys, trusts the TPM's CA", || {
        stage.start_server()
    })?;
    let agent = identity(&mut story, &stage, &machine)?;
    let thief = theft(&mut story, &stage)?;
    tampering(&mut story, &stage, &machine)?;
    story.step("Clean up: end every process, remove every file", || {
        drop((thief, agent, server, machine));
        stage.clear()
    })?;
    story.end();
    Ok(())
}

/// From a TPM to a program that uses its SVID.
fn identity(story: &mut Story, stage: &Stage, machine: &Machine) -> Result<Running> {
    let enrolled = story.step(
        "Operator: enrols the host, by what `plastron-agent tpm ek` says of it",
        || stage.enrol(machine),
    )?;
    story.show(&enrolled);
    let agent = story.step(
        "Agent: attests by TPM, quote and event log; opens its session",
        || stage.start_agent(),
    )?;
    story.step("Operator: registers an entry for your user", || {
        stage.entry("/hello")
    })?;
    let shown = story.step("Program: fetches its SVID over the Workload API", || {
        stage.fetch("/hello")
    })?;
    story.show(&shown);
    let greeted = story.step("Two programs: mutual TLS, each with its SVID", || {
        tls::greet(&stage.program())
    })?;
    story.show(&greeted);
    Ok(agent)
}

/// What a copy of the host's disk is worth.
fn theft(story: &mut Story, stage: &Stage) -> Result<(Machine, Running)> {
    let copied = story.step(
        "Thief: while that SVID is valid, copies the agent's configuration and its whole data directory",
        || theft::copy(stage),
    )?;
    story.show(&copied);
    let thief = story.step(
        "Thief: boots another machine; its TPM differs, its PCRs and its log do not",
        || Ok(Machine::boot()),
    )?;
    let (agent, refusal) = story.step(
        "Thief: starts an agent on the copy; the server refuses it",
        || theft::start_agent(stage, &thief),
    )?;
    story.show(&refusal);
    let searched = story.step(
        "Thief: searches the copy for private keys (PEM, DER, JWK), and shows the server each",
        || theft::use_keys(stage),
    )?;
    story.show(&searched);
    let serves = story.step(
        "Host: unharmed; a new entry is pushed, its program has two SVIDs",
        || {
            stage.entry("/late")?;
            stage.fetch("/late")
        },
    )?;
    let names: Vec<_> = serves
        .lines()
        .filter(|line| line.starts_with("SPIFFE ID"))
        .collect();
    story.show(&names.join("\n"));
    Ok((thief, agent))
}

/// What becomes of a host that is tampered with while a program on it holds an SVID.
fn tampering(story: &mut Story, stage: &Stage, machine: &Machine) -> Result<()> {
    let mut program = story.step("Program: holds its SVID, and follows the Workload API", || {
        tamper::follow(stage)
    })?;
    let taken = story.step(
        "Relying party: openssl, which knows the server's bundle and CRLs, verifies that SVID",
        || relying::verified(stage),
    )?;
    story.show(&taken);
    story.step(
        "Intruder: loads something into the running host that is measured: PCR 4 is extended",
        || {
            machine.measure_unlogged(4);
            Ok(())
        },
    )?;
    let refused = story.step(
        "Server: asks the host what it is, refuses the answer, quarantines the host, within an interval",
        || tamper::quarantined(stage),
    )?;
    story.show(&refused);
    let gone = story.step("Program: its SVID is gone from the Workload API", || {
        tamper::lost(stage, &mut program)
    })?;
    story.show(&gone);
    let revoked = story.step(
        "Relying party: with the server's CRLs of now, openssl refuses the SVID",
        || relying::revoked(stage),
    )?;
    story.show(&revoked);
    let still = story.step(
        "Operator: releases the host as it is; it attests, and is quarantined again",
        || tamper::released(stage),
    )?;
    story.show(&still);
    Ok(())
}

/// One of our programs, as it was just built.
fn program(name: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Command::new(target.join("debug").join(name))
}
