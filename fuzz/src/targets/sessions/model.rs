//! What has to hold whatever is played: what the server believes is true, and what it holds against a host that host said.

use std::collections::BTreeSet;

use attest::{EvidenceKind, HashAlg, PcrSelection, ima::PCR, policy::Stage as PolicyStage, wire::ClockInfo};
use plugin_api::{
    Appraised, Grown, Host as Row, HostClaim, HostPolicies, KernelList, Refusal, SessionBinding,
};
use swtpm_tests::structures::Said;

use super::{
    host::{About, Boot, Quoted, Truth},
    message::{self, Form},
    stage::{Session, Stage, Told, row_id, row_index},
};

/// How much older a first message may be than what was believed last, in milliseconds.
const OVERTAKEN: u64 = 120_000;

impl Stage {
    /// What a message has to be about.
    fn about(&self, told: &Told, is_session: bool, nonce: [u8; 32]) -> About {
        let connection = self.connection(told.connection);
        About {
            kind: if is_session {
                EvidenceKind::Session
            } else {
                EvidenceKind::Attest
            },
            exporter: connection.wire.exporter,
            nonce,
            csr: if is_session { &[] } else { connection.wire.csr },
            hello: connection.hello,
        }
    }

    /// The quote of a TPM that a message brings about what it has to be about; or else the first message of the connection,
    /// where that is what counts.
    fn quoted(&self, told: &Told, first: Option<&[u8]>) -> Option<&Quoted> {
        let is_session = told.form == Form::Supplied || first.is_none();
        let find = |statement: &[u8], nonce| {
            let about = self.about(told, is_session, nonce);
            let is_it = |quoted: &&Quoted| quoted.statement == statement && quoted.about == about;
            self.quotes.iter().find(is_it)
        };
        let own = message::statement(told.form, &told.payload);
        let own = own.and_then(|own| find(&own, told.nonce));
        own.or_else(|| find(first.filter(|_| told.form == Form::Answer)?, [0; 32]))
    }

    fn true_quote(&self, told: &Told, first: Option<&[u8]>, host: usize) -> &Quoted {
        let quoted = self.quoted(told, first);
        let quoted = quoted.unwrap_or_else(|| panic!("no TPM said this, about this connection"));
        assert_eq!(quoted.host, host, "another host's TPM said it");
        quoted
    }

    fn policies(&self) -> HostPolicies {
        HostPolicies::new(self.server.policies.clone())
    }

    /// Whether what a TPM quoted is a boot that all enforced policies take.
    fn is_acceptable(&self, truth: &Truth) -> bool {
        let standard = PcrSelection::standard();
        let is_boot =
            |index: usize| truth.values.select(&standard) == Boot::of(index).values.select(&standard);
        let enforced: BTreeSet<_> = self
            .server
            .policies
            .iter()
            .flat_map(|policy| policy.iter())
            .filter(|generation| generation.stage == PolicyStage::Enforced)
            .map(|generation| generation.policy.name.clone())
            .collect();
        let takes = |name| (0..2).any(|index| Boot::of(index).golden.name == name && is_boot(index));
        enforced.into_iter().all(takes)
    }

    /// Whether a host has to be believed now.
    pub(super) fn is_good(&self, host: usize) -> bool {
        let boot = Boot::of(host);
        let values = &boot.values;
        let said = self.hosts[host].machine.tpm().said;
        let truth = Truth {
            values: values.clone(),
            said,
            entries: 0,
            violations: 0,
            is_clean: true,
        };
        self.hosts[host].is_clean() && self.is_acceptable(&truth)
    }

    /// A claim says what was true when it was signed, and what is demanded now.
    pub(super) fn check_claim(&mut self, told: &Told, first: Option<&[u8]>, claim: &HostClaim) {
        self.tally.claims += 1;
        let host = row_index(&claim.id);
        let quoted = self.true_quote(told, first, host);
        let (truth, appraised) = (&quoted.truth, &claim.appraised);
        check_said(truth, &appraised.standing.clock);
        assert_eq!(appraised.standing.firmware_version, truth.said.firmware_version);
        assert_eq!(digest(truth, &appraised.selection), appraised.pcr_digest);
        check_log(truth, appraised);
        if let Some(list) = &appraised.kernel_list {
            check_list(truth, list);
        }
        assert_eq!(appraised.policy_generation, self.policies().generation());
        assert!(self.is_acceptable(truth), "a policy takes another boot");
        assert_eq!(claim.hello, self.connection(told.connection).hello);
        let row = &self.server.hosts[host];
        if row.revision == claim.revision {
            self.check_goes_on(row, truth, appraised);
        }
    }

    /// Its TPM goes on where it was believed last, and it shows what it showed.
    fn check_goes_on(&self, row: &Row, truth: &Truth, now: &Appraised) {
        let counts = |said: &Said| (said.reset_count, said.restart_count);
        if let Some(before) = &self.believed[row_index(&row.id)] {
            let said = &truth.said;
            assert!(counts(said) >= counts(before), "the TPM was cleared");
            assert!(said.firmware_version >= before.firmware_version, "older firmware");
            let has_booted = said.reset_count != before.reset_count;
            assert!(
                has_booted || said.restart_count == before.restart_count,
                "it slept"
            );
            assert!(
                has_booted || said.clock + OVERTAKEN >= before.clock,
                "the clock went back"
            );
        }
        let had_list = row
            .appraised
            .as_ref()
            .is_some_and(|before| before.kernel_list.is_some());
        assert!(
            !had_list || now.kernel_list.is_some(),
            "it hides its kernel's list"
        );
    }

    /// Nothing is new.
    pub(super) fn check_unchanged(
        &mut self,
        told: &Told,
        row: &Row,
        binding: &SessionBinding,
        clock: &ClockInfo,
    ) {
        self.tally.unchanged += 1;
        let truth = &self.true_quote(told, None, row_index(&row.id)).truth;
        check_said(truth, clock);
        let before = row.appraised.as_ref().unwrap();
        let grown = binding.grown.as_ref().map(|grown| grown.pcr_digest);
        let found = digest(truth, &before.selection);
        assert!(found == before.pcr_digest || Some(found) == grown, "other PCRs");
        self.check_held(truth, row);
    }

    /// The kernel's list got longer, and nothing else is new.
    pub(super) fn check_grown(&mut self, told: &Told, row: &Row, clock: &ClockInfo, grown: &Grown) {
        self.tally.grown += 1;
        let truth = &self.true_quote(told, None, row_index(&row.id)).truth;
        check_said(truth, clock);
        check_list(truth, &grown.list);
        let before = row.appraised.as_ref().unwrap();
        assert_eq!(digest(truth, &before.selection), grown.pcr_digest);
        check_log(truth, before);
        self.check_held(truth, row);
    }

    /// The host is held to what it was accepted under.
    fn check_held(&self, truth: &Truth, row: &Row) {
        let before = row.appraised.as_ref().unwrap();
        assert_eq!(before.policy_generation, self.policies().generation());
        assert!(self.is_acceptable(truth), "a policy takes another boot");
        assert_eq!(truth.said.reset_count, before.standing.clock.reset_count);
        assert_eq!(truth.said.firmware_version, before.standing.firmware_version);
    }

    /// Nothing is held against a host that it did not say, and nothing against one that is as it booted.
    pub(super) fn check_refusal(
        &mut self,
        told: &Told,
        first: Option<&[u8]>,
        session: Option<&Session>,
        refusal: &Refusal,
    ) {
        self.tally.refused += 1;
        let Some(id) = &refusal.said_by else { return };
        self.tally.blamed += 1;
        let host = row_index(id);
        assert!(message::is_readable(told.form, &told.payload), "that is no word");
        match session {
            // Who is on a verified session speaks for its host: any answer but the right one is the host's word.
            Some(session) => assert_eq!(**id, *row_id(session.host)),
            None => {
                let quoted = self.quoted(told, first);
                let said = quoted.is_some_and(|quoted| quoted.host == host);
                assert!(
                    said,
                    "{} is held against a host that did not say it",
                    refusal.code
                );
            }
        }
        let is_replaced = session.is_some_and(|session| session.is_replaced);
        let honest = told.original.map(|quote| &self.quotes[quote]);
        let is_to_this = |quoted: &&Quoted| {
            let is_session = told.form == Form::Supplied || first.is_none();
            quoted.host == host && quoted.about == self.about(told, is_session, told.nonce)
        };
        let Some(honest) = honest.filter(is_to_this) else {
            return;
        };
        let is_fresh = self.believed[host].is_none_or(|before| said_after(&honest.truth.said, &before));
        let is_good = honest.truth.is_clean && is_fresh && self.is_acceptable(&honest.truth) && !is_replaced;
        assert!(
            !is_good,
            "{} is held against a host that is as it booted",
            refusal.code
        );
    }
}

/// Whether a TPM says this after that, or little before.
const fn said_after(now: &Said, before: &Said) -> bool {
    now.reset_count > before.reset_count
        || now.reset_count == before.reset_count
            && now.restart_count == before.restart_count
            && now.clock + OVERTAKEN >= before.clock
}

fn check_said(truth: &Truth, clock: &ClockInfo) {
    let said = &truth.said;
    assert_eq!(
        (clock.clock, clock.reset_count, clock.restart_count),
        (said.clock, said.reset_count, said.restart_count)
    );
}

fn digest(truth: &Truth, selection: &PcrSelection) -> [u8; 32] {
    let digest = truth.values.digest(selection, HashAlg::Sha256);
    digest.as_bytes().try_into().unwrap()
}

/// The log on record explains what the PCRs of the boot were.
fn check_log(truth: &Truth, appraised: &Appraised) {
    let log = appraised.event_log.as_ref().unwrap();
    let standard = PcrSelection::standard();
    assert_eq!(log.values.select(&standard), truth.values.select(&standard));
}

/// It is what the kernel measured, all of it.
fn check_list(truth: &Truth, list: &KernelList) {
    assert_eq!(
        (list.progress.entries(), list.violations),
        (truth.entries, truth.violations)
    );
    let proven = list.progress.pcrs().get(HashAlg::Sha256, PCR);
    assert_eq!(proven, truth.values.get(HashAlg::Sha256, PCR));
}
