//! A line between the host and a program of the guest, or the emulator: whoever is at the other end calls.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::Duration,
};

/// Waits for a call.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

/// A line.
#[derive(Debug)]
pub(super) struct Line {
    reader: BufReader<UnixStream>,
    /// What came of the next line so far.
    begun: Vec<u8>,
}

/// The other end is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// How often it is looked whether waiting makes sense still.
const LOOK: Duration = Duration::from_millis(500);

impl Listener {
    pub(super) fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// The call, if it came.
    pub(super) fn accept(&self) -> Option<Line> {
        let stream = match self.0.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LOOK)).unwrap();
        Some(Line {
            reader: BufReader::new(stream),
            begun: Vec::new(),
        })
    }
}

impl Line {
    /// Sends `text` and the end of its line.
    pub(super) fn say(&mut self, text: &str) {
        self.reader
            .get_mut()
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
    }

    /// The next line; `None` if it is not there yet.
    pub(super) fn hear(&mut self) -> Result<Option<String>, Gone> {
        match self.reader.read_until(b'\n', &mut self.begun) {
            Ok(_) if self.begun.ends_with(b"\n") => {
                let line = std::mem::take(&mut self.begun);
                Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Ok(_) | Err(_) => Err(Gone),
        }
    }
}
