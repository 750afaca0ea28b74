//! What lies between agents and a server, where a test wants to cut it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Passes connections on to a server, and counts what comes back. Dropping it cuts it.
#[derive(Debug)]
pub struct Cable {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Where the server is; nowhere while the cable is cut.
    server: Option<String>,
    /// Both ends of each connection.
    ends: Vec<TcpStream>,
    /// Bytes from the server.
    carried: usize,
    is_gone: bool,
}

impl Cable {
    /// A cable that leads to `server`.
    #[must_use]
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State {
            server: Some(server.to_owned()),
            ends: Vec::new(),
            carried: 0,
            is_gone: false,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for agent in listener.incoming() {
                if shared.lock().unwrap().is_gone {
                    break;
                }
                // A connection that can't be passed on ends at once.
                agent.and_then(|agent| join(agent, &shared)).ok();
            }
        });
        Self { address, state }
    }

    /// What agents take for the server's address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// How many bytes came from the server so far.
    #[must_use]
    pub fn carried(&self) -> usize {
        self.state.lock().unwrap().carried
    }

    /// Ends every connection, and each further one at once.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.server = None;
        for end in state.ends.drain(..) {
            // Whoever was at the other end may have ended it.
            end.shutdown(Shutdown::Both).ok();
        }
    }

    /// Cuts the cable, and has it lead to `server` from now on.
    pub fn lead_to(&self, server: &str) {
        self.cut();
        self.state.lock().unwrap().server = Some(server.to_owned());
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.cut();
        self.state.lock().unwrap().is_gone = true;
        // The listener notices when somebody comes.
        drop(TcpStream::connect(&self.address));
    }
}

/// Joins an agent's connection with one to the server.
fn join(agent: TcpStream, shared: &Arc<Mutex<State>>) -> io::Result<()> {
    let mut state = shared.lock().unwrap();
    let server = state.server.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?;
    let server = TcpStream::connect(server)?;
    for end in [&agent, &server] {
        end.set_nodelay(true)?;
        state.ends.push(end.try_clone()?);
    }
    let counted = Arc::clone(shared);
    let (from_agent, to_server) = (agent.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass_on(from_agent, to_server, |_| {}));
    thread::spawn(move || pass_on(server, agent, |count| counted.lock().unwrap().carried += count));
    Ok(())
}

/// Passes on bytes until either end is gone, and lets the other know. They are counted before they arrive.
fn pass_on(mut from: TcpStream, mut to: TcpStream, count: impl Fn(usize)) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        count(length);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    from.shutdown(Shutdown::Read).ok();
    to.shutdown(Shutdown::Write).ok();
}
