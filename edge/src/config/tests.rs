use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct File {
    server: Server,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Server {
    trust_domain: String,
    #[serde(default)]
    bind_port: u16,
}

fn check(text: &str, set: &[&str], expected: Result<(&str, u16), &str>) {
    let set: Vec<_> = set.iter().map(|assignment| (*assignment).to_owned()).collect();
    let parsed = parse::<File>(Path::new("s.toml"), text, &set);
    match (parsed, expected) {
        (Ok(file), Ok((trust_domain, bind_port))) => {
            assert_eq!(
                file.server,
                Server {
                    trust_domain: trust_domain.into(),
                    bind_port
                }
            );
        }
        (Err(error), Err(message)) => assert_eq!(error.to_string(), message),
        (parsed, expected) => panic!("{parsed:?} is not {expected:?}"),
    }
}

#[test]
fn overrides_win_over_the_file() {
    let text = "[server]\ntrust_domain = \"a\"\n";
    check(text, &[], Ok(("a", 0)));
    check(
        text,
        &["server.trust_domain=b", "server.bind_port=9"],
        Ok(("b", 9)),
    );
    check("", &["server.trust_domain=\"c\""], Ok(("c", 0)));
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_name() {
    let text = "# first\n[server]\ntrust_domain = \"a\"\nbind_prot = 1\n";
    check(
        text,
        &[],
        Err("s.toml:4: unknown key `server.bind_prot`; did you mean `bind_port`?"),
    );
    check(
        "[sever]\n",
        &[],
        Err("s.toml:1: unknown key `sever`; did you mean `server`?"),
    );
    let far = "[server]\ntrust_domain = \"a\"\nzzz = 1\n";
    check(
        far,
        &[],
        Err("s.toml:3: unknown key `server.zzz`; known here: trust_domain, bind_port"),
    );
}

#[test]
fn overrides_are_named_when_they_are_wrong() {
    let text = "[server]\ntrust_domain = \"a\"\n";
    let message = "--set server.bind_prot=1: unknown key `server.bind_prot`; did you mean `bind_port`?";
    check(text, &["server.bind_prot=1"], Err(message));
    check(text, &["server"], Err("--set server: expected table.key=value"));
    check(
        text,
        &["server.trust_domain.x=1"],
        Err("--set server.trust_domain.x=1: expected table.key=value"),
    );
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    let text = "[server]\ntrust_domain = \"a\"\nbind_port = 70000\n";
    let message = "s.toml:3: `server.bind_port`: invalid value: integer `70000`, expected u16";
    check(text, &[], Err(message));
    check(
        "[server]\n",
        &[],
        Err("s.toml:1: `server`: missing field `trust_domain`"),
    );
    check("[server\n", &[], Err("s.toml:1: unclosed table, expected `]`"));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Telling {
    #[expect(dead_code, reason = "what is refused is not used")]
    webhook: crate::webhook::Config,
}

/// The path of its address may be a secret, and errors are for a log.
#[test]
fn what_is_wrong_about_a_webhook_is_said_without_its_address() {
    let check = |text: &str, set: &[&str], expected: &str| {
        let set: Vec<_> = set.iter().map(|assignment| (*assignment).to_owned()).collect();
        let error = parse::<Telling>(Path::new("s.toml"), text, &set).unwrap_err();
        let said = format!("{error:?} {}", crate::Chain(&error));
        assert!(!said.contains("s3cret"), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    let url = |value: &str| format!("[webhook]\nsecret_path = \"s\"\nurl = {value}\n");
    check(
        &url("\"htps://host/s3cret\""),
        &[],
        "s.toml:3: `webhook.url`: is no URL",
    );
    check(&url("[\"https://host/s3cret\"]"), &[], "s.toml:3: `webhook.url`");
    check(&url("https://host/s3cret"), &[], "s.toml:3");
    check(&url("\"https://host/s3cret"), &[], "s.toml:3");
    check(
        &format!("{}url = 1", url("\"https://host/s3cret\"")),
        &[],
        "s.toml:4",
    );
    check(
        "webhook = \"https://host/s3cret\"",
        &[],
        "`webhook`: invalid type: string, expected",
    );
    check("webhook = [\"https://host/s3cret\"]", &[], "s.toml:1: `webhook");
    check(
        "",
        &["webhook=https://host/s3cret"],
        "--set webhook: `webhook`: invalid type: string",
    );
    check(
        "",
        &["webhook.url=s3cret"],
        "--set webhook.url: `webhook.url`: is no URL",
    );
    check(
        "webhook = 1",
        &["webhook.url=s3cret"],
        "--set webhook.url: expected table.key=value",
    );
}

#[test]
fn variables_are_expanded_on_request() {
    let value = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
    let expanded = expand(Path::new("s.toml"), "a $HOME ${HOME} $$x $ b", &value).unwrap();
    assert_eq!(expanded, "a /home/a /home/a $x $ b");
    let missing = expand(Path::new("s.toml"), "\n${PLASTRON_NO_SUCH}", &value).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "s.toml:2: environment variable `PLASTRON_NO_SUCH` is not set"
    );
}
