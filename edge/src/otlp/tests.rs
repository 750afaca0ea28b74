use super::*;

fn endpoint(text: &str) -> Result<Endpoint, toml::de::Error> {
    let table: toml::Table = format!("endpoint = {text:?}").parse()?;
    table.try_into::<Config>().map(|config| config.endpoint)
}

#[test]
fn endpoints_are_hosts_and_ports() {
    for (text, shown) in [
        ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
        ("http://collector", "http://collector:4317"),
        ("http://[::1]:14317/", "http://[::1]:14317"),
    ] {
        assert_eq!(endpoint(text).unwrap().to_string(), shown);
    }
    for text in [
        "",
        "collector:4317",
        "https://collector",
        "http://",
        "http://a/v1/metrics",
        "http://a?b",
        "grpc://a",
    ] {
        let error = endpoint(text).unwrap_err().to_string();
        assert!(error.contains("write `http://HOST:PORT`"), "{text}: {error}");
    }
}

#[test]
#[cfg(not(feature = "otlp"))]
fn a_build_without_it_says_how_to_get_it() {
    let config = Config {
        endpoint: endpoint("http://a").unwrap(),
        interval: default_interval(),
    };
    assert!(
        config
            .check()
            .unwrap_err()
            .to_string()
            .contains("--features otlp")
    );
}

#[cfg(feature = "otlp")]
mod pushing;
