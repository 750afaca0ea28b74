//! Raw TPM commands, and swtpm's control channel.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use attest::HashAlg;

/// How long an answer may take: RSA keys are found by luck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// TPM2_Startup(TPM_SU_CLEAR).
pub(crate) const STARTUP_CLEAR: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];

/// PTM_SET_LOCALITY and its kin, as numbered on the TCP control channel.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Control {
    SetLocality = 5,
    HashStart = 6,
    HashData = 7,
    HashEnd = 8,
}

/// Sends a TPM command to `port`, and returns the response.
pub(crate) fn command(port: u16, command: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.write_all(command).unwrap();
    read_frame(&mut stream).unwrap().expect("a response")
}

/// Sends a message to the control channel at `port`; it must succeed.
pub(crate) fn control(port: u16, message: Control, payload: &[u8]) {
    let mut stream = connect(port);
    let message = [&(message as u32).to_be_bytes(), payload].concat();
    stream.write_all(&message).unwrap();
    let mut result = [0; 4];
    stream.read_exact(&mut result).unwrap();
    assert_eq!(result, [0; 4], "control message {message:02x?} was refused");
}

/// TPM2_PCR_Extend.
pub(crate) fn extend(pcr: u32, digests: &[(HashAlg, Vec<u8>)]) -> Vec<u8> {
    let mut body = [0x182_u32.to_be_bytes(), pcr.to_be_bytes()].concat();
    // One password session, with the empty password.
    body.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0]);
    body.extend(u32::try_from(digests.len()).unwrap().to_be_bytes());
    for (alg, digest) in digests {
        body.extend(alg.to_tpm().to_be_bytes());
        body.extend(digest);
    }
    let len = u32::try_from(body.len() + 6).unwrap();
    [&[0x80, 2], &len.to_be_bytes()[..], &body].concat()
}

/// A command or response, from tag to end; `None` if the peer closed the connection before.
pub(crate) fn read_frame(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; 6];
    if stream.read(&mut frame[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut frame[1..])?;
    let len = u32::from_be_bytes(frame[2..6].try_into().unwrap());
    frame.resize(usize::try_from(len).unwrap(), 0);
    stream.read_exact(&mut frame[6..])?;
    Ok(Some(frame))
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
