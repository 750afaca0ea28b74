//! A client for the health listeners.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// What the health listener on `port` answers to GET `path`: everything, from the status line on.
pub(super) fn get(port: u16, path: &str) -> io::Result<String> {
    String::from_utf8(get_bytes(port, path)?).map_err(io::Error::other)
}

/// As [`get`], for what is no text.
pub(super) fn get_bytes(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
