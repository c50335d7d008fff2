//! The new process's side. It has nothing else to do meanwhile, and blocks.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use super::{LINE_MAX, Message, PATIENCE, Passed, UpgradeError, VERSION, check_user};
use crate::net::{Inherited, InheritedSocket, receive_with};

/// A process that is taken over from.
#[derive(Debug)]
pub struct Takeover {
    stream: BufReader<UnixStream>,
}

impl Takeover {
    /// Asks the process that serves the socket at `path` for its listening sockets, and adds them to
    /// what is inherited; `None` when there is none.
    ///
    /// # Errors
    /// When there is one and it does not give them.
    pub fn ask(path: &Path, inherited: &mut Inherited) -> Result<Option<Self>, UpgradeError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // Nobody was there yet, or who was is no more.
            Err(error) if is_nobody(error.kind()) => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(UpgradeError::Socket { path, source });
            }
        };
        let user = socket_peercred(&stream).map_err(|it| UpgradeError::Broken(it.into()))?;
        check_user(user.uid.as_raw())?;
        let patience = Some(PATIENCE);
        let set = stream.set_read_timeout(patience);
        set.and_then(|()| stream.set_write_timeout(patience))
            .map_err(UpgradeError::Broken)?;
        let (line, descriptors) = read_with_descriptors(&stream).map_err(broken)?;
        match Message::parse(&line, "sockets")? {
            Message::Sockets { version, .. } if version != VERSION => {
                return Err(UpgradeError::Version(version));
            }
            Message::Sockets { sockets, .. } if sockets.len() == descriptors.len() => {
                inherit(inherited, sockets, descriptors);
            }
            _ => return Err(Message::unexpected(&line, "a descriptor for each socket")),
        }
        let stream = BufReader::new(stream);
        Ok(Some(Self { stream }))
    }

    /// Says that this process could serve, and on which sockets; and waits until it may.
    ///
    /// # Errors
    /// When the other process has ended, or no longer waits: then it serves on, and this one must not.
    pub fn begin(&mut self, taken: &[String]) -> Result<(), UpgradeError> {
        let taken = taken.to_vec();
        self.say(&Message::Ready { taken })?;
        let mut line = String::new();
        let mut bounded = (&mut self.stream).take(LINE_MAX as u64);
        bounded.read_line(&mut line).map_err(broken)?;
        match Message::parse(&line, "go")? {
            Message::Go => Ok(()),
            _ => Err(Message::unexpected(&line, "go")),
        }
    }

    /// Says that this process serves, so that the other one may go.
    ///
    /// # Errors
    /// When that one no longer listens: it may have ended.
    pub fn serving(self) -> Result<(), UpgradeError> {
        self.say(&Message::Serving)
    }

    fn say(&self, message: &Message) -> Result<(), UpgradeError> {
        let mut stream = self.stream.get_ref();
        stream
            .write_all(message.to_line().as_bytes())
            .map_err(broken)
    }
}

fn is_nobody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn broken(error: io::Error) -> UpgradeError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => UpgradeError::Slow,
        _ => UpgradeError::Broken(error),
    }
}

/// The first line, and the descriptors that come with it.
fn read_with_descriptors(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    let mut piece = vec![0; LINE_MAX];
    while line.last() != Some(&b'\n') && line.len() < LINE_MAX {
        let read = receive_with(stream, &mut piece, &mut descriptors)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&piece[..read]);
    }
    Ok((String::from_utf8_lossy(&line).into_owned(), descriptors))
}

fn inherit(inherited: &mut Inherited, sockets: Vec<Passed>, descriptors: Vec<OwnedFd>) {
    for (passed, socket) in sockets.into_iter().zip(descriptors) {
        inherited.push(InheritedSocket {
            name: passed.name,
            address: Some(passed.address),
            socket,
            is_kept: passed.is_kept,
        });
    }
}
