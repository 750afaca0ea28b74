use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x1f, 0x91];

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn v6() -> Vec<u8> {
    let address = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    [address(7), address(1), vec![0x1f, 0x90, 0x1f, 0x91]].concat()
}

/// What comes of `sent` from a trusted load balancer, and what is left for the handshake.
async fn origin(sent: &[u8]) -> (Result<SocketAddr, BadHeader>, Vec<u8>) {
    let trusted = TrustedNetworks::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let mut stream = sent;
    let origin = trusted
        .origin(&mut stream, "10.1.2.3:5000".parse().unwrap())
        .await;
    (origin, stream.to_vec())
}

#[tokio::test]
async fn the_header_says_whose_connection_it_is() {
    let balancer = "10.1.2.3:5000";
    let with_tlv = [V4, &[0xee, 0, 2, 1, 2]].concat();
    for (header, expected) in [
        (header(PROXY, TCP4, V4), "192.0.2.7:8080"),
        (header(PROXY, TCP4, &with_tlv), "192.0.2.7:8080"),
        (header(PROXY, 0x21, &v6()), "[2001:db8::7]:8080"),
        (header(LOCAL, 0, b""), balancer),
        (header(LOCAL, TCP4, V4), balancer),
        (header(PROXY, 0, b"whatever"), balancer),
        (header(PROXY, 0x31, &[0; 216]), balancer),
    ] {
        let sent = [header.as_slice(), b"hello"].concat();
        let (origin, left) = origin(&sent).await;
        assert_eq!(origin.unwrap(), expected.parse().unwrap());
        assert_eq!(left, b"hello", "the handshake begins behind the header");
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let check = async |sent: &[u8], expected: &str| {
        let (origin, _) = origin(sent).await;
        let refused = origin.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    let whole = header(PROXY, TCP4, V4);
    check(b"\x16\x03\x01 a ClientHello, unannounced", "no PROXY header").await;
    check(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", "no PROXY header").await;
    check(&header(0x31, TCP4, V4), "no PROXY header").await;
    check(&header(0x22, TCP4, V4), "no PROXY header").await;
    check(&header(PROXY, 0x41, V4), "no PROXY header").await;
    check(&header(PROXY, TCP4, &V4[..11]), "no PROXY header").await;
    check(&header(PROXY, 0x12, V4), "not of a TCP connection").await;
    check(&header(PROXY, TCP4, &[0; MAX_HEADER]), "longer than 4096 bytes").await;
    check(&whole[..10], "ended within").await;
    check(&whole[..20], "ended within").await;
}

#[tokio::test]
async fn others_are_not_believed() {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let trusted = TrustedNetworks::new(networks.map(|network| network.parse().unwrap()).into());
    let sent = header(PROXY, TCP4, V4);
    for (peer, expected, left) in [
        ("11.0.0.1:1", "11.0.0.1:1", sent.len()),
        ("[2001:db9::1]:1", "[2001:db9::1]:1", sent.len()),
        ("[2001:db8::1]:1", "192.0.2.7:8080", 0),
        ("[::ffff:10.0.0.1]:1", "192.0.2.7:8080", 0),
    ] {
        let mut stream = sent.as_slice();
        let origin = trusted.origin(&mut stream, peer.parse().unwrap()).await;
        assert_eq!(origin.unwrap(), expected.parse().unwrap());
        assert_eq!(stream.len(), left);
    }
}
