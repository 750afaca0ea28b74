//! What the kernel measured: the whole list at first, then what it got since.

use std::{fs, sync::Arc};

use attest::{
    Digest, HashAlg, PcrValues,
    ima::{Hashing, MeasurementList},
    policy::{Generation, Generations, Policy, Stage},
};
use node_tpm::{Config, EventLogs, KernelLists};
use plugin_api::{Attested, NodeProver, Refusal, Round};
use prost::Message;
use proto::plastron::attest::v1::{Answer, Challenge, Log, LogKind, Need, Supplied, answer::Step, challenge};
use swtpm_tests::{
    KernelEntry, SoftwareTpm,
    parties::{Machine, Outcome, Server, WIRE, captured, claim, code, replayed},
};

use crate::{
    banks::with_both_banks,
    rounds::{Session, surely},
};

/// A machine that booted with Secure Boot, of which log and list were captured.
const BOOT: &str = "vm-sb-56c.bin";
/// Most of a list that comes at once, in bytes.
const PART: usize = 768 * 1024;

/// What a kernel measured: whole entries, one after the other.
#[derive(Clone)]
struct Kernel(Vec<Vec<u8>>);

impl Kernel {
    fn captured(name: &str) -> Self {
        let lists = concat!(env!("CARGO_MANIFEST_DIR"), "/../../attest/testdata/ima");
        let bytes = fs::read(std::path::Path::new(lists).join(name)).unwrap();
        let list = MeasurementList::parse(&bytes).unwrap();
        let end = |entries| list.len_of(entries);
        Self(
            (0..list.len())
                .map(|n| bytes[end(n)..end(n + 1)].into())
                .collect(),
        )
    }

    /// Further files that somebody ran.
    fn and_files(mut self, count: usize) -> Self {
        let files =
            (0..count).map(|n| KernelEntry::of_file(&format!("/usr/bin/{n:0>200}"), &[7; 32]).bytes());
        self.0.extend(files);
        self
    }

    fn first(&self, entries: usize) -> Vec<u8> {
        self.0[..entries].concat()
    }
}

/// A host whose kernel measures, and the server that asks for it.
struct Measuring {
    session: Session,
    kernel: Kernel,
}

fn asking(ima: KernelLists) -> Config {
    Config {
        ima,
        ..Config::default()
    }
}

fn machine() -> Machine {
    let log = captured(BOOT);
    Machine::with(SoftwareTpm::with(replayed(&log)), &log)
}

/// The kernel of `machine` has measured `entries`, and all of them are in its list.
fn measure(machine: &Machine, kernel: &Kernel, entries: usize) {
    list(machine, &kernel.first(entries));
    extend(machine, &kernel.first(entries));
}

fn list(machine: &Machine, bytes: &[u8]) {
    fs::write(&machine.list, bytes).unwrap();
}

/// PCR 10 is what these entries make of it.
fn extend(machine: &Machine, bytes: &[u8]) {
    extend_bank(machine, HashAlg::Sha256, bytes);
}

fn extend_bank(machine: &Machine, alg: HashAlg, bytes: &[u8]) {
    let list = MeasurementList::parse(bytes).unwrap();
    let extended: PcrValues = list.replay(alg, Hashing::Whole);
    let value = extended.get(alg, 10).copied();
    machine
        .tpm()
        .values
        .set(alg, 10, value.unwrap_or(Digest::filled(0, alg)));
}

fn server(machine: &Machine, config: &Config) -> Server {
    let mut server = Server::new(config);
    server.enrol("host-1", machine.ek_hash());
    server
}

impl Measuring {
    /// One that attested when its kernel had measured ten files.
    fn open() -> Self {
        Self::with(Kernel::captured(BOOT), 10)
    }

    fn with(kernel: Kernel, entries: usize) -> Self {
        let machine = machine();
        measure(&machine, &kernel, entries);
        let server = server(&machine, &asking(KernelLists::Optional));
        Self {
            session: Session::of(machine, server),
            kernel,
        }
    }

    fn measure(&self, entries: usize) {
        measure(&self.session.machine, &self.kernel, entries);
    }

    /// A round that is accepted; how many questions it took, how far the list is proven then, and whether that was stored.
    fn round(&mut self) -> (usize, u64, bool) {
        let (outcome, sent) = self.session.round();
        let (list, is_stored) = match outcome.unwrap() {
            Round::Grown(clock, grown) => {
                self.session.binding.clock = clock;
                self.session.binding.grown = Some((*grown).clone());
                (grown.list, false)
            }
            Round::Changed(claim) => {
                self.session.binding.clock = claim.appraised.standing.clock;
                let path = self.session.path.clone();
                self.session.server.note((*claim).clone(), &path);
                (claim.appraised.kernel_list.unwrap(), true)
            }
            other => panic!("{other:?}"),
        };
        let bytes = self
            .kernel
            .first(list.progress.entries().try_into().unwrap())
            .len();
        assert_eq!(list.bytes, u64::try_from(bytes).unwrap());
        (sent, list.progress.entries(), is_stored)
    }

    /// The answer to a round's first question, changed before it is heard.
    fn lies(&mut self, change: impl FnOnce(&mut Log)) -> Result<Round, Refusal> {
        let asked = self.session.ask();
        let answer = self.session.answer(&asked.send);
        let mut supplied = Supplied::decode(answer.as_slice()).unwrap();
        change(&mut supplied.logs[0]);
        self.session.hear(asked, &supplied.encode_to_vec())
    }
}

fn attested(server: &Server, machine: &mut Machine) -> Result<(Attested, usize), Refusal> {
    match server.converse(machine, WIRE)? {
        (Outcome::Attested(attested), sent) => Ok((attested, sent)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_shows_all_at_first_and_then_what_is_new() {
    let mut host = Measuring::open();
    let row = host.session.server.hosts[0].appraised.clone().unwrap();
    assert_eq!(row.selection.to_string(), "sha256:0,1,2,3,4,5,6,7,8,9,10,14");
    let list = row.kernel_list.unwrap();
    assert_eq!((list.progress.entries(), list.violations), (10, 0));

    // Nothing new: one quote, and as few bytes as ever.
    host.session.machine.tpm().quotes = 0;
    let asked = host.session.ask();
    let answer = host.session.answer(&asked.send);
    assert!(asked.send.len() + answer.len() <= 600);
    assert!(matches!(
        host.session.hear(asked, &answer),
        Ok(Round::Unchanged(_))
    ));
    host.session.goes_on();
    assert_eq!(host.session.machine.tpm().quotes, 2);

    // Five files more: they alone come, with the quote that proves them, and nothing is stored.
    host.measure(15);
    let asked = host.session.ask();
    let from = Need::decode(asked.send.as_slice()).unwrap().list_from.unwrap();
    let ten = u64::try_from(host.kernel.first(10).len()).unwrap();
    assert_eq!((from.entries, from.bytes), (10, ten));
    let answer = host.session.answer(&asked.send);
    let supplied = Supplied::decode(answer.as_slice()).unwrap();
    let delta = Log {
        kind: LogKind::Ima.into(),
        content: host.kernel.0[10..15].concat().into(),
        offset: 10,
        more: false,
    };
    assert_eq!(supplied.logs, [delta]);
    assert_eq!(host.round(), (1, 15, false));
    host.session.goes_on();
    host.measure(16);
    assert_eq!(host.round(), (1, 16, false));
    assert_eq!(host.session.machine.tpm().quotes, 6);
}

#[test]
fn a_host_that_attests_again_goes_on_where_its_row_is() {
    let mut host = Measuring::open();
    let Measuring { session, kernel } = &mut host;
    let (again, sent) = session.server.attest(&mut session.machine);
    assert_eq!(sent, 1, "nothing is new");
    assert!(again.selectors.contains(&"ima:proven".to_owned()), "{again:?}");
    assert!(again.selectors.contains(&"ima:clean".to_owned()), "{again:?}");
    measure(&session.machine, kernel, 20);
    let (again, sent) = session.server.attest(&mut session.machine);
    let list = claim(&again).appraised.kernel_list.unwrap();
    assert_eq!((sent, list.progress.entries()), (2, 20));
}

/// The kernel measures while the TPM signs.
#[test]
fn entries_newer_than_the_quote_come_again_with_the_next() {
    let mut host = Measuring::open();
    list(&host.session.machine, &host.kernel.first(30));
    extend(&host.session.machine, &host.kernel.first(25));
    assert_eq!(host.round(), (1, 25, false));
    host.session.goes_on();
    extend(&host.session.machine, &host.kernel.first(30));
    assert_eq!(host.round(), (1, 30, false));
    // What is still being written is left for later.
    let torn = [host.kernel.first(31), host.kernel.0[31][..9].to_vec()].concat();
    list(&host.session.machine, &torn);
    extend(&host.session.machine, &host.kernel.first(31));
    assert_eq!(host.round(), (1, 31, false));
}

#[test]
fn an_entry_that_is_not_shown_is_found_and_its_place_is_named() {
    let mut host = Measuring::open();
    extend(&host.session.machine, &host.kernel.first(15));
    let mut hidden = host.kernel.clone();
    hidden.0.remove(12);
    list(&host.session.machine, &hidden.first(14));
    let refusal = host.session.is_refused("ima_unexplained");
    assert_eq!(
        refusal.source.to_string(),
        "measurement list does not explain PCR 10: after entry 10 something is missing or was put in"
    );
    // To attest anew does not help.
    let refused = attested(&host.session.server, &mut host.session.machine).unwrap_err();
    assert_eq!(
        (refused.code, refused.said_by.as_deref()),
        ("ima_unexplained", Some("host-1"))
    );
}

#[test]
fn a_pcr_of_the_firmware_is_told_from_that_of_the_kernel() {
    let mut host = Measuring::open();
    host.measure(15);
    host.session
        .machine
        .tpm()
        .values
        .extend(HashAlg::Sha256, 4, &[1; 32]);
    let refusal = host.session.is_refused("log_mismatch");
    assert!(
        refusal.source.to_string().contains("PCR 4 of bank sha256"),
        "{refusal:?}"
    );
}

#[test]
fn a_delta_that_was_changed_is_refused() {
    let grown = || {
        let host = Measuring::open();
        host.measure(15);
        host
    };
    let outcome = grown().lies(|delta| {
        let mut content = delta.content.to_vec();
        // Within the path of the last entry.
        let at = content.len() - 8;
        content[at] ^= 1;
        delta.content = content.into();
    });
    surely(outcome, "ima_template_digest");
    let outcome = grown().lies(|delta| delta.content = b"no list".to_vec().into());
    surely(outcome, "ima_malformed");
    // Nothing else passes for a list.
    let outcome = grown().lies(|delta| delta.content = b"10 ".to_vec().into());
    surely(outcome, "ima_malformed");
}

/// One that lacks entries, comes in another order, or again: all is asked for, and the honest host is what it was.
#[test]
fn what_does_not_go_on_is_asked_for_from_its_beginning() {
    let delta_of = |kernel: &Kernel, entries: &[usize]| -> Vec<u8> {
        entries.iter().flat_map(|n| kernel.0[*n].clone()).collect()
    };
    for entries in [
        &[11, 12, 13, 14][..],
        &[11, 10, 12, 13, 14],
        &[],
        &[9, 10, 11, 12, 13, 14],
    ] {
        let mut host = Measuring::open();
        host.measure(15);
        let delta = delta_of(&host.kernel, entries);
        let Ok(Round::Ask(asked)) = host.lies(|log| log.content = delta.into()) else {
            panic!("{entries:?} was taken")
        };
        let need = Need::decode(asked.send.as_slice()).unwrap();
        assert_eq!((need.list_from, need.logs.len()), (None, 2));
        let answer = host.session.answer(&asked.send);
        let Ok(Round::Grown(_, grown)) = host.session.hear(asked, &answer) else {
            panic!("the whole list was refused")
        };
        assert_eq!(grown.list.progress.entries(), 15);
    }
}

#[test]
fn an_older_delta_is_worth_nothing() {
    let mut host = Measuring::open();
    host.measure(15);
    let asked = host.session.ask();
    let answer = host.session.answer(&asked.send);
    let old = Supplied::decode(answer.as_slice()).unwrap().logs[0].clone();
    drop(asked);
    assert_eq!(host.round(), (1, 15, false));
    host.measure(20);
    let recorded = old.clone();
    let Ok(Round::Ask(asked)) = host.lies(|delta| *delta = recorded) else {
        panic!("it was taken")
    };
    // What goes on elsewhere than was asked for is no answer.
    let answer = host.session.answer(&asked.send);
    let mut supplied = Supplied::decode(answer.as_slice()).unwrap();
    *supplied.logs.last_mut().unwrap() = old;
    surely(
        host.session.hear(asked, &supplied.encode_to_vec()),
        "ima_continuity",
    );
}

#[test]
fn a_boot_begins_the_list_anew() {
    let mut host = Measuring::open();
    host.session.machine.tpm().said.reset_count += 1;
    host.measure(12);
    let Measuring { session, .. } = &mut host;
    let first = session.machine.begin(WIRE);
    let Ok(plugin_api::Step::Challenge { send, .. }) = session.server.start(&first, WIRE) else {
        panic!("nothing was asked")
    };
    let sent = Challenge::decode(send.as_slice()).unwrap();
    let Some(challenge::Step::Need(need)) = sent.step else {
        panic!("{sent:?}")
    };
    assert_eq!((need.list_from, need.logs.len()), (None, 1));
    let (again, _) = session.server.attest(&mut session.machine);
    let list = claim(&again).appraised.kernel_list.unwrap();
    assert_eq!((list.progress.reset_count(), list.progress.entries()), (8, 12));

    // In a session, too, and what was proven of the boot before counts for nothing.
    let mut host = Measuring::open();
    host.session.machine.tpm().said.reset_count += 1;
    host.measure(12);
    assert_eq!(host.round(), (2, 12, true));
}

#[test]
fn a_server_that_forgot_asks_for_all() {
    let mut host = Measuring::open();
    let Measuring { session, .. } = &mut host;
    let row = Arc::make_mut(&mut session.server.hosts[0]);
    row.appraised.as_mut().unwrap().kernel_list = None;
    let (again, sent) = session.server.attest(&mut session.machine);
    let list = claim(&again).appraised.kernel_list.unwrap();
    assert_eq!((sent, list.progress.entries()), (2, 10));
}

#[test]
fn a_server_that_forgot_the_last_rounds_is_shown_them_again() {
    let mut host = Measuring::open();
    host.measure(15);
    assert_eq!(host.round(), (1, 15, false));
    host.session.binding.grown = None;
    assert_eq!(host.round(), (1, 15, false));
}

#[test]
fn a_session_opens_with_a_list_that_did_not_grow() {
    let mut host = Measuring::open();
    let Measuring { session, kernel } = &mut host;
    let mut resume = |entries| {
        measure(&session.machine, kernel, entries);
        let evidence = session.machine.prover.resume(&[3; 32]).unwrap().unwrap();
        let path = session.path.clone();
        let resumed = session.server.resume(&evidence, &path, [3; 32]);
        resumed.map(|claim| claim.appraised.kernel_list.map(|list| list.progress.entries()))
    };
    assert_eq!(resume(10).unwrap(), Some(10));
    assert_eq!(code(resume(11)), "evidence_new");
}

#[test]
fn much_that_is_new_is_stored() {
    let kernel = Kernel::captured(BOOT).and_files(1500);
    let mut host = Measuring::with(kernel, 10);
    host.measure(500);
    assert_eq!(host.round(), (1, 500, false));
    host.measure(1200);
    assert_eq!(host.round(), (1, 1200, true));
    host.session.goes_on();
    host.measure(1201);
    assert_eq!(host.round(), (1, 1201, false));
}

#[test]
fn violations_are_counted_and_stored() {
    let mut kernel = Kernel::captured(BOOT);
    kernel.0.truncate(12);
    kernel.0.push(KernelEntry::violation("/var/log/open").bytes());
    let mut host = Measuring::with(kernel, 12);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, true));
    let row = host.session.server.hosts[0].appraised.clone().unwrap();
    assert_eq!(row.kernel_list.unwrap().violations, 1);
    let Measuring { session, .. } = &mut host;
    let (again, _) = session.server.attest(&mut session.machine);
    assert!(again.selectors.contains(&"ima:proven".to_owned()), "{again:?}");
    assert!(!again.selectors.contains(&"ima:clean".to_owned()), "{again:?}");
}

/// What is expected of hosts with a list or without, by whether they showed one before.
#[test]
fn lists_are_asked_for_as_the_setting_says() {
    let check = |ima, has_list, had_list, expected: Result<bool, &str>| {
        let mut machine = machine();
        let kernel = Kernel::captured(BOOT);
        if had_list {
            measure(&machine, &kernel, 10);
        }
        let mut asked = server(&machine, &asking(KernelLists::Optional));
        asked.attest(&mut machine);
        fs::remove_file(&machine.list).ok();
        machine
            .tpm()
            .values
            .set(HashAlg::Sha256, 10, Digest::filled(0, HashAlg::Sha256));
        if has_list {
            measure(&machine, &kernel, 12);
        }
        machine.prover.refused();
        let server = Server {
            hosts: asked.hosts,
            ..Server::new(&asking(ima))
        };
        let outcome = attested(&server, &mut machine).map_err(|refusal| {
            assert_eq!(
                refusal.said_by, None,
                "a list that can't be read makes no host suspect"
            );
            refusal.code
        });
        let shown = outcome.map(|(attested, _)| claim(&attested).appraised.kernel_list.is_some());
        assert_eq!(shown, expected, "{ima:?}, has {has_list}, had {had_list}");
    };
    let missing = Err("ima_missing");
    for (has, had, optional, required) in [
        (false, false, Ok(false), missing),
        (false, true, missing, missing),
        (true, false, Ok(true), Ok(true)),
        (true, true, Ok(true), Ok(true)),
    ] {
        check(KernelLists::Off, has, had, Ok(false));
        check(KernelLists::Optional, has, had, optional);
        check(KernelLists::Required, has, had, required);
    }
}

#[test]
fn a_list_counts_on_top_of_the_firmwares_log_alone() {
    let mut machine = machine();
    measure(&machine, &Kernel::captured(BOOT), 10);
    fs::remove_file(&machine.log).unwrap();
    let optional = Config {
        event_log: EventLogs::Optional,
        ..asking(KernelLists::Optional)
    };
    let (shown, _) = attested(&server(&machine, &optional), &mut machine).unwrap();
    assert_eq!(claim(&shown).appraised.kernel_list, None);
    let required = Config {
        ima: KernelLists::Required,
        ..optional
    };
    assert_eq!(server(&machine, &required).refuses(&mut machine), "ima_missing");
}

/// A host that never showed a list is not welcome without one that can be believed, and no worse than before.
fn is_no_suspect(server: &Server, machine: &mut Machine, code: &str) {
    let refusal = attested(server, machine).unwrap_err();
    assert_eq!((refusal.code, refusal.said_by.as_deref()), (code, None));
}

#[test]
fn a_list_of_another_boot_or_of_none_is_refused() {
    // Booted as another machine did, and its list says so.
    let mut other = Machine::new();
    measure(&other, &Kernel::captured(BOOT), 10);
    let asked = server(&other, &asking(KernelLists::Optional));
    is_no_suspect(&asked, &mut other, "ima_boot_aggregate");
    // A list that does not begin with a boot.
    let mut headless = machine();
    let mut kernel = Kernel::captured(BOOT);
    kernel.0.remove(0);
    measure(&headless, &kernel, 10);
    let asked = server(&headless, &asking(KernelLists::Optional));
    is_no_suspect(&asked, &mut headless, "ima_boot_aggregate");
    // A kernel that found its TPM when it had measured already.
    let mut late = machine();
    list(&late, &Kernel::captured(BOOT).first(10));
    let asked = server(&late, &asking(KernelLists::Optional));
    is_no_suspect(&asked, &mut late, "ima_boot_aggregate");
}

/// Before Linux 5.8 all banks were extended by SHA-1.
#[test]
fn a_kernel_that_fills_up_sha1_is_refused() {
    let mut machine = machine();
    let kernel = Kernel::captured(BOOT);
    list(&machine, &kernel.first(10));
    let extended = MeasurementList::parse(&kernel.first(10))
        .unwrap()
        .replay(HashAlg::Sha256, Hashing::PaddedSha1);
    let value = extended.get(HashAlg::Sha256, 10).copied().unwrap();
    machine.tpm().values.set(HashAlg::Sha256, 10, value);
    let asked = server(&machine, &asking(KernelLists::Optional));
    is_no_suspect(&asked, &mut machine, "ima_weak_hash");
}

/// One that showed a list that could be believed is another host now.
#[test]
fn a_host_whose_list_was_good_once_is_suspect_without_a_boot() {
    let mut host = Measuring::open();
    host.session.machine.tpm().said.reset_count += 1;
    let mut headless = host.kernel.clone();
    headless.0.remove(0);
    measure(&host.session.machine, &headless, 10);
    let refused = attested(&host.session.server, &mut host.session.machine).unwrap_err();
    assert_eq!(
        (refused.code, refused.said_by.as_deref()),
        ("ima_boot_aggregate", Some("host-1"))
    );
}

#[test]
fn both_banks_are_explained() {
    let machine = with_both_banks();
    let firmware = "sha256:0-9".parse().unwrap();
    let aggregate = machine.tpm().values.digest(&firmware, HashAlg::Sha256);
    let boot = KernelEntry::of_file("boot_aggregate", aggregate.as_bytes().try_into().unwrap());
    let kernel = Kernel(vec![boot.bytes()]).and_files(20);
    measure(&machine, &kernel, 10);
    extend_bank(&machine, HashAlg::Sha384, &kernel.first(10));
    let server = server(&machine, &asking(KernelLists::Required));
    let session = Session::of(machine, server);
    let mut host = Measuring { session, kernel };
    let row = host.session.server.hosts[0].appraised.clone().unwrap();
    assert_eq!(row.kernel_list.unwrap().progress.pcrs().iter().count(), 2);
    host.session.goes_on();
    host.measure(15);
    extend_bank(&host.session.machine, HashAlg::Sha384, &host.kernel.first(15));
    assert_eq!(host.round(), (1, 15, false));
    // One bank alone is not enough.
    host.measure(16);
    host.session.is_refused("ima_unexplained");
}

#[test]
fn a_long_list_comes_in_parts() {
    let kernel = Kernel::captured(BOOT).and_files(8000);
    let all = kernel.0.len();
    assert!(kernel.first(all).len() > 2 * PART);
    let mut host = Measuring::with(kernel, all);
    let list = host.session.server.hosts[0]
        .appraised
        .clone()
        .unwrap()
        .kernel_list;
    assert_eq!(list.unwrap().progress.entries(), u64::try_from(all).unwrap());
    host.session.goes_on();
}

#[test]
fn a_list_that_is_too_long_at_once_is_refused() {
    let grown = || {
        let host = Measuring::open();
        host.measure(15);
        host
    };
    let too_large = grown().lies(|delta| delta.content = vec![0; PART + 1].into());
    assert_eq!(too_large.unwrap_err().code, "too_large");
    // A part that brings nothing is no part.
    let outcome = grown().lies(|delta| {
        delta.content = Vec::new().into();
        delta.more = true;
    });
    surely(outcome, "unexpected_message");
}

/// Who always has more is not listened to for ever.
#[test]
fn a_list_has_so_many_parts_and_no_more() {
    let mut machine = machine();
    measure(&machine, &Kernel::captured(BOOT), 10);
    let server = server(&machine, &asking(KernelLists::Optional));
    let first = machine.begin(WIRE);
    let mut step = server.start(&first, WIRE);
    for sent in 1_u8.. {
        let (send, next) = match step {
            Ok(plugin_api::Step::Challenge { send, next }) => (send, next),
            outcome => {
                let refusal = outcome.unwrap_err();
                assert_eq!((refusal.code, sent), ("ima_limit", 17));
                assert_eq!(refusal.said_by, None, "nothing was shown to be bad");
                return;
            }
        };
        let mut answer = Answer::decode(machine.prover.answer(&send).unwrap().as_slice()).unwrap();
        if let Some(Step::Supplied(supplied)) = &mut answer.step {
            let list = supplied.logs.last_mut().unwrap();
            list.content = Kernel::captured(BOOT).0[usize::from(sent)].clone().into();
            list.more = true;
        }
        let context = server.context(WIRE, sent + 1);
        step = next.handle(&answer.encode_to_vec(), &context);
    }
}

/// No file of [`Kernel::and_files`] may be run.
const DENIES: &str = "[ima]\ndeny = ['0707070707070707070707070707070707070707070707070707070707070707']";
/// Any file may be.
const ALLOWS: &str = "[ima]";

fn hold(server: &mut Server, rules: &[(&str, Stage)]) {
    let generation = |(rules, stage): &(&str, Stage)| {
        let text = format!("format = 1\nname = \"files\"\nversion = 1\n{rules}");
        Generation::new(Policy::parse(text.as_bytes()).unwrap(), *stage)
    };
    let all = rules.iter().map(generation).collect();
    server.policies = vec![Arc::new(Generations::new(all).unwrap())];
}

/// A host that met these when it attested, with two files more than it was captured with.
fn held(rules: &[(&str, Stage)]) -> Measuring {
    let mut kernel = Kernel::captured(BOOT);
    kernel.0.truncate(12);
    let kernel = kernel.and_files(2);
    let machine = machine();
    measure(&machine, &kernel, 10);
    let mut server = server(&machine, &asking(KernelLists::Optional));
    hold(&mut server, rules);
    Measuring {
        session: Session::of(machine, server),
        kernel,
    }
}

impl Measuring {
    /// The entries that differ from each generation, as the row has them.
    fn differences(&self) -> Vec<Vec<String>> {
        let row = self.session.server.hosts[0].appraised.as_ref().unwrap();
        let judgements = row.policies[0].judgements.iter();
        judgements.map(|one| one.differences.clone()).collect()
    }
}

#[test]
fn a_file_that_is_denied_is_found_when_it_is_run() {
    let mut host = held(&[(DENIES, Stage::Enforced)]);
    let row = host.session.server.hosts[0].appraised.clone().unwrap();
    assert!(row.selectors.contains(&"policy:files".to_owned()), "{row:?}");
    host.measure(12);
    assert_eq!(host.round(), (1, 12, false));
    host.measure(13);
    let refusal = host.session.is_refused("policy_not_met");
    let said = refusal.source.to_string();
    assert!(said.contains("/usr/bin/0") && said.contains("entry 12"), "{said}");
}

/// What a generation says of new entries is added to what it said of the old.
#[test]
fn of_two_generations_one_has_to_be_met_by_all_that_ran() {
    let mut host = held(&[(DENIES, Stage::Enforced), (ALLOWS, Stage::Enforced)]);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, true));
    assert_eq!(
        host.differences().iter().map(Vec::len).collect::<Vec<_>>(),
        [1, 0]
    );
    host.session.goes_on();
    host.measure(14);
    assert_eq!(host.round(), (1, 14, true));
    assert_eq!(
        host.differences().iter().map(Vec::len).collect::<Vec<_>>(),
        [2, 0]
    );
}

#[test]
fn what_is_only_watched_is_noted() {
    let mut host = held(&[(DENIES, Stage::Staged)]);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, true));
    let differences = host.differences();
    assert!(differences[0][0].contains("/usr/bin/0"), "{differences:?}");
}

/// Who watches a rule that is not complete yet does not have each further file stored and recorded.
#[test]
fn beyond_what_is_kept_differences_are_counted_and_not_stored() {
    let mut host = held(&[("[ima]\nallow = []", Stage::Staged)]);
    let row = host.session.server.hosts[0].appraised.clone().unwrap();
    let more = row.policies[0].judgements[0].more;
    assert!(more > 0, "{row:?}");
    host.measure(13);
    assert_eq!(host.round(), (1, 13, false));
    host.session.goes_on();
    let now = host.session.server.hosts[0].appraised.clone().unwrap();
    assert_eq!(now.policies, row.policies);
}

/// The log and the firmware's PCRs are the same; what ran is not.
#[test]
fn what_ran_before_a_boot_is_not_held_against_the_host_after_it() {
    let booted = |host: &mut Measuring| {
        host.session.machine.tpm().said.reset_count += 1;
        host.measure(10);
    };
    // Watched: what differed is gone with the files, and comes back with them.
    let mut host = held(&[(DENIES, Stage::Staged)]);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, true));
    assert_eq!(host.differences()[0].len(), 1);
    booted(&mut host);
    host.session.server.attest(&mut host.session.machine);
    assert_eq!(host.differences(), [[""; 0]]);
    host.measure(13);
    host.session.server.attest(&mut host.session.machine);
    assert_eq!(host.differences()[0].len(), 1);

    // Enforced: each boot may meet another generation.
    let denies_other = DENIES.replace("07", "09");
    let mut host = held(&[(DENIES, Stage::Enforced), (&denies_other, Stage::Enforced)]);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, true));
    host.kernel.0[11] = KernelEntry::of_file("/usr/bin/other", &[9; 32]).bytes();
    booted(&mut host);
    host.measure(12);
    host.session.server.attest(&mut host.session.machine);
    let differences = host.differences();
    let lens: Vec<_> = differences.iter().map(Vec::len).collect();
    assert_eq!(lens.iter().sum::<usize>(), 1, "{differences:?}");
}

#[test]
fn a_log_that_nobody_asked_for_is_not_taken() {
    let mut host = Measuring::open();
    host.measure(15);
    let asked = host.session.ask();
    let answer = host.session.answer(&asked.send);
    let mut supplied = Supplied::decode(answer.as_slice()).unwrap();
    supplied.logs.insert(
        0,
        Log {
            kind: LogKind::EventLog.into(),
            content: captured(BOOT).into(),
            ..Log::default()
        },
    );
    surely(
        host.session.hear(asked, &supplied.encode_to_vec()),
        "unexpected_message",
    );
}

#[test]
fn another_generation_is_shown_the_whole_list() {
    let mut host = held(&[(ALLOWS, Stage::Enforced)]);
    host.measure(13);
    assert_eq!(host.round(), (1, 13, false));
    hold(&mut host.session.server, &[(DENIES, Stage::Enforced)]);
    let refusal = host.session.is_refused("policy_not_met");
    assert!(refusal.source.to_string().contains("entry 12"), "{refusal:?}");

    let mut host = held(&[(ALLOWS, Stage::Enforced)]);
    hold(&mut host.session.server, &[(DENIES, Stage::Enforced)]);
    assert_eq!(host.round(), (2, 10, true));
    host.session.goes_on();
}

#[test]
fn a_file_in_an_early_part_of_a_long_list_is_found() {
    let kernel = Kernel::captured(BOOT).and_files(1);
    let early = kernel.0.len();
    let mut kernel = kernel.and_files(8000);
    for entry in &mut kernel.0[early..] {
        *entry = KernelEntry::of_file(&"x".repeat(200), &[8; 32]).bytes();
    }
    let mut machine = machine();
    measure(&machine, &kernel, kernel.0.len());
    let mut asked = server(&machine, &asking(KernelLists::Optional));
    hold(&mut asked, &[(DENIES, Stage::Enforced)]);
    let refusal = attested(&asked, &mut machine).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("policy_not_met", Some("host-1"))
    );
    let said = refusal.source.to_string();
    assert!(said.contains(&format!("entry {}", early - 1)), "{said}");
}

#[test]
fn without_a_list_a_rule_about_files_is_not_met() {
    let mut machine = machine();
    measure(&machine, &Kernel::captured(BOOT), 10);
    let mut asked = server(&machine, &asking(KernelLists::Off));
    hold(&mut asked, &[(ALLOWS, Stage::Enforced)]);
    assert_eq!(asked.refuses(&mut machine), "policy_not_met");
}

/// What root measured into a PCR that a policy pins is not explained by an entry that says so.
#[test]
fn an_entry_does_not_speak_for_a_pcr_that_a_policy_pins() {
    let fields = [0; 4];
    let template = KernelEntry::of_fields("sig", &fields);
    for entry in [KernelEntry::violation("/any"), template] {
        let pinned = || {
            let machine = machine();
            let value = Digest::filled(0, HashAlg::Sha256);
            machine.tpm().values.set(HashAlg::Sha256, 12, value);
            let mut kernel = Kernel::captured(BOOT);
            kernel.0.truncate(10);
            let mut bytes = entry.bytes();
            bytes[..4].copy_from_slice(&12_u32.to_le_bytes());
            kernel.0.push(bytes);
            measure(&machine, &kernel, 10);
            let mut server = server(&machine, &asking(KernelLists::Optional));
            let rule = format!("[[pcr]]\nindex = 12\nvalues = [\"{value}\"]");
            hold(&mut server, &[(&rule, Stage::Enforced)]);
            let session = Session::of(machine, server);
            let row = session.server.hosts[0].appraised.as_ref().unwrap();
            assert!(row.selectors.contains(&"policy:files".to_owned()), "{row:?}");
            let tpm = &session.machine;
            tpm.tpm()
                .values
                .extend(HashAlg::Sha256, 12, entry.extension(HashAlg::Sha256).as_bytes());
            list(tpm, &kernel.first(11));
            session
        };
        pinned().is_refused("ima_pcr");
        let mut again = pinned();
        let refused = attested(&again.server, &mut again.machine).unwrap_err();
        assert_eq!(refused.code, "ima_pcr");
    }
}
