//! Which of many hosts are meant: decided on what the server says of them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use attest::ek::VendorId;
use clap::Args;
use ipnet::IpNet;
use proto::plastron::host::v1::{EndorsementKey, Host};
use svid::Timestamp;

/// Hosts that meet all of these.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only hosts that were last seen at this address, or in this network.
    #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = network)]
    from: Option<IpNet>,
    /// Only hosts whose TPM is of this vendor, by a certificate that led to a root: `STM`, or `id:53544D20`.
    #[arg(long, value_name = "VENDOR")]
    manufacturer: Option<VendorId>,
    /// Only hosts whose TPM is of this model, by a certificate that led to a root.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only hosts whose row was made so long ago, such as `1h`.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only hosts whose row was made since then.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    younger_than: Option<Duration>,
    /// Only hosts whose endorsement certificate led to a root.
    #[arg(long)]
    certified: bool,
}

/// The names of the options.
pub(super) const OPTIONS: [&str; 6] = [
    "from",
    "manufacturer",
    "model",
    "older_than",
    "younger_than",
    "certified",
];

impl Filter {
    /// Whether `host` is meant.
    pub(super) fn matches(&self, host: &Host, now: Timestamp) -> bool {
        let age = now.since(Timestamp::from_unix(host.created_at));
        let is_there = |network: &IpNet| address(host).is_some_and(|address| network.contains(&address));
        let has_key = |is_it: &dyn Fn(&EndorsementKey) -> bool| {
            let mut certified = host
                .endorsement_keys
                .iter()
                .filter(|key| key.certificate_verified);
            certified.any(is_it)
        };
        let is_of = |vendor: &VendorId| {
            has_key(&|key| key.manufacturer.parse().is_ok_and(|of: VendorId| of.is(*vendor)))
        };
        let is_model = |model: &String| has_key(&|key| key.model.eq_ignore_ascii_case(model));
        self.from.as_ref().is_none_or(is_there)
            && self.manufacturer.as_ref().is_none_or(is_of)
            && self.model.as_ref().is_none_or(is_model)
            && self.older_than.is_none_or(|least| age >= least)
            && self.younger_than.is_none_or(|most| age < most)
            && (!self.certified || has_key(&|_| true))
    }
}

/// Where a host was last seen: rows that wait have an address, others one with a port.
fn address(host: &Host) -> Option<IpAddr> {
    let text = host.last_address.as_str();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port)
}

fn network(text: &str) -> Result<IpNet, String> {
    let alone = |_| text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(alone);
    network.map_err(|_| "an address such as 10.0.0.7, or a network such as 10.0.0.0/8".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        filter: Filter,
    }

    fn host() -> Host {
        let key = EndorsementKey {
            certificate_verified: true,
            manufacturer: "id:53544D20".into(),
            model: "ST33HTPHAHD4".into(),
            ..EndorsementKey::default()
        };
        Host {
            endorsement_keys: vec![EndorsementKey::default(), key],
            created_at: 1000,
            last_address: "10.1.2.3".into(),
            ..Host::default()
        }
    }

    fn is_meant(options: &str, host: &Host) -> bool {
        let words = std::iter::once("list").chain(options.split_whitespace());
        let filter = Cli::try_parse_from(words).unwrap().filter;
        filter.matches(host, Timestamp::from_unix(1000 + 3600))
    }

    #[test]
    fn hosts_are_told_apart_by_what_is_known_of_them() {
        for (options, expected) in [
            ("", true),
            ("--from 10.0.0.0/8", true),
            ("--from 10.1.2.3", true),
            ("--from 10.1.2.4", false),
            ("--from 2001:db8::/32", false),
            ("--manufacturer STM", true),
            ("--manufacturer id:53544D20", true),
            ("--manufacturer IFX", false),
            ("--model st33htphahd4", true),
            ("--model ST33", false),
            ("--older-than 1h", true),
            ("--older-than 61m", false),
            ("--younger-than 1h", false),
            ("--younger-than 61m", true),
            ("--certified", true),
            ("--certified --manufacturer STM --from 10.0.0.0/8", true),
            ("--certified --manufacturer STM --from 11.0.0.0/8", false),
        ] {
            assert_eq!(is_meant(options, &host()), expected, "{options}");
        }
    }

    #[test]
    fn what_no_root_vouches_for_tells_nothing() {
        let mut forged = host();
        forged.endorsement_keys[1].certificate_verified = false;
        for options in ["--certified", "--manufacturer STM", "--model ST33HTPHAHD4"] {
            assert!(!is_meant(options, &forged), "{options}");
        }
    }

    #[test]
    fn enrolled_hosts_have_a_port() {
        let mut host = host();
        host.last_address = "[2001:db8::1]:4711".into();
        assert!(is_meant("--from 2001:db8::/32", &host));
        host.last_address = String::new();
        assert!(!is_meant("--from ::/0", &host));
    }
}
