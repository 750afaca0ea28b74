//! Hosts, and what is true of them, whatever they say.

use std::{collections::VecDeque, fs, path::Path, sync::LazyLock};

use attest::{
    EvidenceKind, HashAlg, PcrSelection, PcrValues, Quote,
    event_log::EventLog,
    hello_digest,
    ima::{Hashing, MeasurementList, PCR},
    policy::{Evidence, Learned, Policy, learn},
};
use plugin_api::{Binding, NodeProver};
use prost::Message;
use proto::plastron::attest::v1::{self as wire, answer, challenge};
use swtpm_tests::{
    KernelEntry, SoftwareTpm,
    parties::{Machine, Wire, captured, replayed},
    structures::Said,
};

/// What a quote is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct About {
    pub(super) kind: EvidenceKind,
    pub(super) exporter: [u8; 32],
    pub(super) nonce: [u8; 32],
    pub(super) csr: &'static [u8],
    pub(super) hello: [u8; 32],
}

/// What was true of a host when its TPM signed.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) values: PcrValues,
    pub(super) said: Said,
    /// How many entries its kernel measured since it booted, and how many of them are violations.
    pub(super) entries: u64,
    pub(super) violations: u64,
    /// Whether it was as it booted, and showed all that it measured.
    pub(super) is_clean: bool,
}

/// A quote that a TPM made.
#[derive(Clone, Debug)]
pub(super) struct Quoted {
    /// Which host's.
    pub(super) host: usize,
    pub(super) statement: Vec<u8>,
    pub(super) about: About,
    pub(super) truth: Truth,
}

/// How a machine boots.
pub(super) struct Boot {
    pub(super) log: Vec<u8>,
    pub(super) values: PcrValues,
    /// What its kernel measures first.
    list: Vec<Vec<u8>>,
    /// What is learned of it.
    pub(super) golden: Policy,
}

/// A host: its TPM, its agent's prover, and what became of it since it booted.
pub(super) struct Host {
    index: usize,
    pub(super) machine: Machine,
    measured: Vec<KernelBytes>,
    /// Somebody extended a PCR that no log tells of.
    is_extended: bool,
    is_log_its_own: bool,
    is_list_whole: bool,
    /// Its TPM said what no TPM says that goes on as it was.
    is_odd: bool,
    /// What its prover began, the latest last: it remembers no more.
    begun: VecDeque<About>,
}

struct KernelBytes {
    bytes: Vec<u8>,
    is_violation: bool,
}

/// One with Secure Boot, one without.
const BOOTS: [&str; 2] = ["vm-sb-56c.bin", "vm-nosb-56c.bin"];
/// How many entries a kernel has when its agent starts.
const MEASURED: u32 = 3;
/// How many connections a prover remembers.
const MAX_CONVERSATIONS: usize = 4;

/// What the host does to its TPM.
#[derive(Clone, Copy, Debug)]
pub(super) enum Oddity {
    ClockBack,
    ClockOn,
    Cleared,
    OlderFirmware,
    Slept,
}

impl Boot {
    /// How the host with this number boots.
    pub(super) fn of(index: usize) -> &'static Self {
        static ALL: LazyLock<[Boot; 2]> = LazyLock::new(|| BOOTS.map(Boot::read));
        &ALL[index]
    }

    fn read(name: &str) -> Self {
        let log = captured(name);
        let parsed = EventLog::parse(&log).unwrap();
        let values = replayed(&log);
        let standard = values.select(&PcrSelection::standard());
        let evidence = Evidence::recorded(&standard, &parsed).unwrap();
        let policy = format!("golden-{}", name.trim_end_matches(".bin"));
        let golden = learn(&policy.parse().unwrap(), 1, &evidence, Learned::usual_pins()).policy;
        let lists = concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/testdata/ima");
        let list = fs::read(Path::new(lists).join(name)).unwrap();
        let parsed = MeasurementList::parse(&list).unwrap();
        let end = |entries| parsed.len_of(entries);
        Self {
            list: (0..MEASURED).map(|n| list[end(n)..end(n + 1)].into()).collect(),
            golden,
            values,
            log,
        }
    }
}

impl Host {
    pub(super) fn new(index: usize) -> Self {
        let boot = Boot::of(index);
        let mut host = Self {
            index,
            machine: Machine::with(SoftwareTpm::with(boot.values.clone()), &boot.log),
            measured: Vec::new(),
            is_extended: false,
            is_log_its_own: true,
            is_list_whole: true,
            is_odd: false,
            begun: VecDeque::new(),
        };
        host.boot();
        host
    }

    /// Whether nobody did anything to it that a server has to notice.
    pub(super) const fn is_clean(&self) -> bool {
        !self.is_extended && self.is_log_its_own && self.is_list_whole && !self.is_odd
    }

    fn truth(&self) -> Truth {
        let tpm = self.machine.tpm();
        Truth {
            values: tpm.values.clone(),
            said: tpm.said,
            entries: self.measured.len() as u64,
            violations: self.measured.iter().filter(|entry| entry.is_violation).count() as u64,
            is_clean: self.is_clean(),
        }
    }

    /// The TPM is reset, and everything is measured anew.
    pub(super) fn boot(&mut self) {
        let boot = Boot::of(self.index);
        {
            let mut tpm = self.machine.tpm();
            tpm.values = boot.values.clone();
            tpm.said.reset_count += 1;
            tpm.said.restart_count = 0;
            tpm.said.clock = 5;
        }
        self.is_extended = false;
        let entry = |bytes: &Vec<u8>| KernelBytes {
            bytes: bytes.clone(),
            is_violation: false,
        };
        self.measured = boot.list.iter().map(entry).collect();
        self.measured_changed();
        self.look_again();
    }

    /// The kernel measures a file.
    pub(super) fn measure(&mut self, name: u8, is_violation: bool) {
        let path = format!("/usr/bin/{name}");
        let entry = match is_violation {
            true => KernelEntry::violation(&path),
            false => KernelEntry::of_file(&path, &[name; 32]),
        };
        let bytes = entry.bytes();
        let extension = entry.extension(HashAlg::Sha256);
        self.machine
            .tpm()
            .values
            .extend(HashAlg::Sha256, PCR, extension.as_bytes());
        self.measured.push(KernelBytes { bytes, is_violation });
        if self.is_list_whole {
            self.show_list(self.measured.len());
        }
    }

    fn measured_changed(&mut self) {
        let all: Vec<u8> = self.list(self.measured.len());
        let replayed = MeasurementList::parse(&all)
            .unwrap()
            .replay(HashAlg::Sha256, Hashing::Whole);
        let value = *replayed.get(HashAlg::Sha256, PCR).unwrap();
        self.machine.tpm().values.set(HashAlg::Sha256, PCR, value);
        self.show_list(self.measured.len());
    }

    fn list(&self, entries: usize) -> Vec<u8> {
        let shown = self.measured.iter().take(entries);
        shown.flat_map(|entry| entry.bytes.clone()).collect()
    }

    /// Shows so many entries of what was measured.
    pub(super) fn show_list(&mut self, entries: usize) {
        fs::write(&self.machine.list, self.list(entries)).unwrap();
        self.is_list_whole = entries >= self.measured.len();
    }

    /// Shows none of it: the file is not there.
    pub(super) fn hide_list(&mut self) {
        let _hidden = fs::remove_file(&self.machine.list);
        self.is_list_whole = false;
        self.look_again();
    }

    /// Says that it booted as another does, or as it did.
    pub(super) fn show_log(&mut self, of: usize) {
        fs::write(&self.machine.log, &Boot::of(of).log).unwrap();
        self.is_log_its_own = of == self.index;
        self.look_again();
    }

    /// The prover remembers which logs there are until it is refused.
    pub(super) fn look_again(&mut self) {
        self.machine.prover.refused();
    }

    /// Somebody extends a PCR.
    pub(super) fn extend(&mut self, pcr: u8) {
        self.machine
            .tpm()
            .values
            .extend(HashAlg::Sha256, pcr, &[0xee; 32]);
        self.is_extended = true;
    }

    pub(super) fn be_odd(&mut self, oddity: Oddity) {
        let mut tpm = self.machine.tpm();
        let said = &mut tpm.said;
        match oddity {
            Oddity::ClockBack => said.clock = said.clock.saturating_sub(200_000),
            Oddity::ClockOn => said.clock += 200_000,
            Oddity::Cleared => said.reset_count = 0,
            Oddity::OlderFirmware => said.firmware_version = said.firmware_version.saturating_sub(1),
            Oddity::Slept => said.restart_count += 1,
        }
        drop(tpm);
        self.is_odd |= !matches!(oddity, Oddity::ClockOn);
    }

    /// The first message of an attestation.
    pub(super) fn begin(&mut self, wire: Wire) -> Option<(Vec<u8>, Quoted)> {
        self.machine.prover.prepare().ok()?;
        let binding = Binding {
            exporter: wire.exporter,
            csr: wire.csr.to_vec(),
        };
        let payload = self.machine.prover.begin(&binding).ok()?;
        Some(self.opened(payload, EvidenceKind::Attest, wire))
    }

    /// The first message of a session.
    pub(super) fn resume(&mut self, exporter: [u8; 32]) -> Option<(Vec<u8>, Quoted)> {
        let payload = self.machine.prover.resume(&exporter).ok()??;
        let wire = Wire { exporter, csr: &[] };
        Some(self.opened(payload, EvidenceKind::Session, wire))
    }

    fn opened(&mut self, payload: Vec<u8>, kind: EvidenceKind, wire: Wire) -> (Vec<u8>, Quoted) {
        let evidence = wire::Evidence::decode(&*payload).unwrap();
        let about = About {
            kind,
            exporter: wire.exporter,
            nonce: [0; 32],
            csr: wire.csr,
            hello: hello_digest(&evidence.hello),
        };
        self.begun.push_back(about.clone());
        if self.begun.len() > MAX_CONVERSATIONS {
            self.begun.pop_front();
        }
        let quoted = self.quoted(evidence.quote, about);
        (payload, quoted)
    }

    /// What it answers in an attestation.
    pub(super) fn answer(&mut self, asked: &[u8]) -> Option<(Vec<u8>, Option<Quoted>)> {
        let payload = self.machine.prover.answer(asked).ok()?;
        let Some(answer::Step::Supplied(supplied)) = wire::Answer::decode(&*payload).unwrap().step else {
            return Some((payload, None));
        };
        let Some(challenge::Step::Need(need)) = wire::Challenge::decode(asked).unwrap().step else {
            panic!("a quote that nobody asked for");
        };
        let about = About {
            kind: EvidenceKind::Attest,
            nonce: (&*need.nonce).try_into().unwrap(),
            ..self.begun.back().cloned().unwrap()
        };
        Some((payload, Some(self.quoted(supplied.quote, about))))
    }

    /// What it answers in a session on this connection.
    pub(super) fn answer_round(&mut self, exporter: [u8; 32], asked: &[u8]) -> Option<(Vec<u8>, Quoted)> {
        let payload = self.machine.prover.answer_round(&exporter, asked).ok()?;
        let supplied = wire::Supplied::decode(&*payload).unwrap();
        let mut begun = self.begun.iter();
        let about = About {
            kind: EvidenceKind::Session,
            nonce: (&*wire::Need::decode(asked).unwrap().nonce).try_into().unwrap(),
            csr: &[],
            ..begun.find(|about| about.exporter == exporter).cloned().unwrap()
        };
        let quoted = self.quoted(supplied.quote, about);
        Some((payload, quoted))
    }

    fn quoted(&self, quote: Option<wire::Quote>, about: About) -> Quoted {
        let quote = quote.unwrap();
        assert!(Quote::parse(&quote.attest, &quote.signature).is_ok());
        Quoted {
            host: self.index,
            statement: quote.attest.to_vec(),
            about,
            truth: self.truth(),
        }
    }
}
