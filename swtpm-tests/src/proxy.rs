//! Between a program and its TPM: counts commands, and does what an interposer on the bus would do.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    ports,
    swtpm::{Swtpm, tcti},
    wire,
};

/// Passes commands on to a TPM. It has ports of its own, which stay when TPMs come and go.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Port of the TPM; without one, connections are closed at once.
    tpm: Option<u16>,
    /// Codes since they were last taken.
    codes: Vec<u32>,
    commands: Vec<Vec<u8>>,
    responses: Vec<Vec<u8>>,
    corrupted: Option<u32>,
    closed: bool,
}

impl Proxy {
    /// A proxy before `tpm`.
    #[must_use]
    pub fn before(tpm: &Swtpm) -> Self {
        let (port, data, control) = ports::listen();
        let state = Arc::new(Mutex::new(State {
            tpm: Some(tpm.port()),
            ..State::default()
        }));
        serve(data, Arc::clone(&state), |client, tpm, state| {
            relay(client, connect(tpm)?, state)
        });
        serve(control, Arc::clone(&state), |client, tpm, _| {
            splice(client, connect(tpm + 1)?)
        });
        Self { port, state }
    }

    /// How libtss2 finds it.
    #[must_use]
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// Codes of the commands (TPM_CC) that passed since the last call, in order.
    pub fn take_commands(&self) -> Vec<u32> {
        std::mem::take(&mut self.state.lock().unwrap().codes)
    }

    /// The commands of one code (TPM_CC) that passed since the proxy was made.
    #[must_use]
    pub fn commands(&self, code: u32) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let of_code = state
            .commands
            .iter()
            .filter(|command| self::code(command) == code);
        of_code.cloned().collect()
    }

    /// Whether these bytes passed in a command or a response since the proxy was made.
    #[must_use]
    pub fn saw(&self, bytes: &[u8]) -> bool {
        let state = self.state.lock().unwrap();
        let mut frames = state.commands.iter().chain(&state.responses);
        frames.any(|frame| frame.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Passes commands on to another TPM from now on.
    pub fn switch_to(&self, tpm: &Swtpm) {
        self.state.lock().unwrap().tpm = Some(tpm.port());
    }

    /// Closes all further connections: the TPM is gone.
    pub fn cut(&self) {
        self.state.lock().unwrap().tpm = None;
    }

    /// Flips a bit in each successful response to this command from now on.
    pub fn corrupt(&self, command: u32) {
        self.state.lock().unwrap().corrupted = Some(command);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.lock().unwrap().closed = true;
        // Listeners notice when somebody comes.
        for port in [self.port, self.port + 1] {
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        }
    }
}

impl State {
    fn note_command(&mut self, command: &[u8]) {
        self.codes.push(code(command));
        self.commands.push(command.to_vec());
    }

    fn note_response(&mut self, response: &[u8]) {
        self.responses.push(response.to_vec());
    }
}

fn serve(
    listener: TcpListener,
    state: Arc<Mutex<State>>,
    pass_on: impl Fn(TcpStream, u16, &Mutex<State>) -> io::Result<()> + Copy + Send + 'static,
) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let (tpm, closed) = {
                let state = state.lock().unwrap();
                (state.tpm, state.closed)
            };
            if closed {
                break;
            }
            if let (Ok(client), Some(tpm)) = (client, tpm) {
                let state = Arc::clone(&state);
                // A broken connection is the business of those on its ends.
                thread::spawn(move || pass_on(client, tpm, &state).ok());
            }
        }
    });
}

/// Passes on whole commands and responses.
fn relay(mut client: TcpStream, mut tpm: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    while let Some(command) = wire::read_frame(&mut client)? {
        state.lock().unwrap().note_command(&command);
        tpm.write_all(&command)?;
        let Some(mut response) = wire::read_frame(&mut tpm)? else {
            break;
        };
        state.lock().unwrap().note_response(&response);
        let corrupted = state.lock().unwrap().corrupted == Some(code(&command));
        if corrupted && code(&response) == 0 {
            *response.last_mut().unwrap() ^= 1;
        }
        client.write_all(&response)?;
    }
    Ok(())
}

/// Command code or response code: both stand at the same place.
fn code(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[6..10].try_into().unwrap())
}

/// Passes on bytes in both directions.
fn splice(client: TcpStream, tpm: TcpStream) -> io::Result<()> {
    let (mut from_tpm, mut to_client) = (tpm.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut from_tpm, &mut to_client).ok();
        to_client.shutdown(Shutdown::Both).ok();
    });
    let (mut from_client, mut to_tpm) = (client, tpm);
    io::copy(&mut from_client, &mut to_tpm)?;
    to_tpm.shutdown(Shutdown::Write)
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
