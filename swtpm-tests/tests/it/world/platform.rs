//! Platform certificates: a host is known by the TPM that the maker of its machine put in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use attest::ek::CertificateId;
use serde_json::Value;
use swtpm_tests::{Agent, Machine, World, new_dir, platform::Platform, vendor::Ca, write_ca_certificates};

/// A folder with one file.
fn folder(content: &[u8]) -> PathBuf {
    let folder = new_dir();
    fs::write(folder.join("machine.der"), content).unwrap();
    folder
}

/// The words that import a folder of platform certificates that lead to a folder of roots.
fn import<'a>(certificates: &'a Path, roots: &'a Path) -> [&'a str; 6] {
    [
        "host",
        "import",
        "--platform-certificates",
        certificates.to_str().unwrap(),
        "--platform-roots",
        roots.to_str().unwrap(),
    ]
}

/// By which the certificate of the machine's endorsement key is told apart.
fn ek_certificate(machine: &Machine) -> CertificateId {
    let key = &machine.endorsement_keys()["endorsement_keys"][0];
    let text = |name: &str| key[name].as_str().unwrap();
    CertificateId::new(text("issuer"), &hex::decode(text("serial_number")).unwrap())
}

fn check_imported(imported: &Value, name: &str) {
    let host = &imported["results"][0]["host"];
    assert_eq!(host["name"], name, "{imported}");
    assert_eq!(host["enrolment"], "ENROLMENT_ENROLLED", "{imported}");
}

/// The host attests; one with another TPM, in the same chassis, does not.
fn check_bound(world: &World, machine: &Machine) {
    let agent = world.agent_with(machine);
    let swapped = Machine::boot();
    let other = Agent::on(&swapped, &world.address(), &world.bundle());
    other.daemon().wait_for("host_pending");
    assert_eq!(other.daemon().count("\"Attested\""), 0);
    drop(agent);
}

#[test]
fn a_platform_certificate_out_of_the_tpm_enrols_that_tpm_alone() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let file = new_dir().join("platform.der");
    let read = [
        "tpm2_nvread",
        "0x01C08000",
        "-C",
        "o",
        "-o",
        file.to_str().unwrap(),
    ];
    machine.tpm.tool(&read);
    let roots = new_dir().join("makers");
    write_ca_certificates(&roots);

    let imported = world.cli(&import(&folder(&fs::read(&file).unwrap()), &roots));

    check_imported(&imported, "Plastron Test");
    check_bound(&world, &machine);
}

#[test]
fn an_attribute_certificate_enrols_the_tpm_of_its_holder_once() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let [maker, namesake] = [(); 2].map(|()| Ca::root("machines", |_| ()));
    let roots = folder(&maker.der);
    let platform = Platform::new("machines", &ek_certificate(&machine));
    let forged = folder(&platform.signed_by(&namesake));
    let refused = world.outcome(&import(&forged, &roots));
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("platform_chain_signature"), "{said}");

    let imported = world.cli(&import(&folder(&platform.signed_by(&maker)), &roots));
    check_imported(&imported, "Plastron Carapace 1 C1-0042");
    check_bound(&world, &machine);

    // The TPM is that of a row, whatever another machine's certificate says.
    let mut other = platform;
    other.names[3].1 = "C1-0043".into();
    let refused = world.outcome(&import(&folder(&other.signed_by(&maker)), &roots));
    assert!(!refused.status.success());
    let enrolled = world.audit(&["query", "--event", "host_enrolled", "--output", "json"]);
    assert_eq!(enrolled.len(), 1, "{enrolled:?}");
}
