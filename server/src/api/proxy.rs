//! The [PROXY protocol](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt), version 2: a load balancer says
//! in front of each connection whose it is. It is believed from networks that the operator named, and required from
//! there: whoever can send it can be anybody. From elsewhere it is what it is, bytes that are no TLS.

use std::{io, net::SocketAddr};

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The networks whose load balancers are believed.
#[derive(Clone, Debug, Default)]
pub(super) struct TrustedNetworks(Vec<IpNet>);

/// What begins a connection from a trusted network is no header.
#[derive(Debug, thiserror::Error)]
pub enum BadHeader {
    /// It breaks off.
    #[error("connection ended within its PROXY header")]
    Cut(#[source] io::Error),
    /// It passes on what is no stream.
    #[error("PROXY header is not of a TCP connection")]
    Datagram,
    /// It is none, or of version 1, or says what version 2 does not know.
    #[error("no PROXY header of version 2; does the load balancer send one?")]
    Malformed,
    /// It has more to say than any load balancer.
    #[error("PROXY header is longer than {MAX_HEADER} bytes")]
    TooLong,
}

/// Longest header in bytes: addresses, and what a load balancer adds of a client's certificate.
const MAX_HEADER: usize = 4096;
/// Signature, version and command, family, and how much follows.
const FIXED: usize = 16;

impl TrustedNetworks {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whose connection from `peer` is: what the header says, which is taken off `stream`, if `peer` is trusted.
    ///
    /// # Errors
    ///
    /// It is trusted, and sent no header.
    pub(super) async fn origin(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
    ) -> Result<SocketAddr, BadHeader> {
        let address = peer.ip().to_canonical();
        if !self.0.iter().any(|network| network.contains(&address)) {
            return Ok(peer);
        }
        // Not a byte more is read: what follows is the handshake's.
        let mut header = vec![0; FIXED];
        stream.read_exact(&mut header).await.map_err(BadHeader::Cut)?;
        header.resize(header_length(&header)?, 0);
        let rest = header.get_mut(FIXED..).unwrap_or_default();
        stream.read_exact(rest).await.map_err(BadHeader::Cut)?;
        Ok(read_header(&header)?.unwrap_or(peer))
    }
}

/// How long a header is in all, by its first 16 bytes.
fn header_length(fixed: &[u8]) -> Result<usize, BadHeader> {
    match ProxyHeader::parse(fixed, CONFIG) {
        Ok(_) | Err(proxy_header::Error::BufferTooShort) => {}
        Err(_) => return Err(BadHeader::Malformed),
    }
    let &[.., high, low] = fixed else {
        return Err(BadHeader::Malformed);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    (length <= MAX_HEADER).then_some(length).ok_or(BadHeader::TooLong)
}

/// Whose connection a whole header says that it is; `None` if the load balancer's own (it looks whether we live), or
/// if it does not know. What else it says is passed over.
///
/// # Errors
///
/// It is no header of version 2, or not of a stream.
pub fn read_header(header: &[u8]) -> Result<Option<SocketAddr>, BadHeader> {
    if header.len() > MAX_HEADER {
        return Err(BadHeader::TooLong);
    }
    let (parsed, length) = ProxyHeader::parse(header, CONFIG).map_err(|_| BadHeader::Malformed)?;
    if length != header.len() {
        return Err(BadHeader::Malformed);
    }
    match parsed.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => Ok(Some(address.source)),
        Some(_) => Err(BadHeader::Datagram),
    }
}

const CONFIG: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: false,
    allow_v2: true,
};

#[cfg(test)]
mod tests;
