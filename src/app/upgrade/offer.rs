//! The old process's side: it serves meanwhile.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{LINE_MAX, Message, PATIENCE, Passed, UpgradeError, VERSION, check_user};
use crate::net::{AcceptPause, SharedListener, send_with};

/// The Unix socket where a new process asks for the listening sockets.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    /// Where it is until it is shown at `path`.
    hidden: PathBuf,
    listener: UnixListener,
    /// Whether this process's file is at `path`.
    is_shown: bool,
}

/// Who took over, and what.
#[derive(Debug)]
pub struct Succession {
    /// The listeners whose sockets it serves.
    pub taken: Vec<String>,
    /// The new process, where the system tells.
    pub pid: Option<i32>,
}

impl Offer {
    /// Listens for a process that will ask at `path`, and does not say so yet. Must be called on a
    /// runtime.
    ///
    /// # Errors
    /// When nothing can be listened on there.
    pub fn prepare(path: &Path) -> Result<Self, UpgradeError> {
        // Beside it, so that it can be moved there in one step: there is always a process that answers,
        // and its file was never anybody else's to open.
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(format!(".{}", std::process::id()));
        let hidden = PathBuf::from(hidden);
        let listener = listen(&hidden).map_err(|source| {
            let path = path.to_owned();
            UpgradeError::Socket { path, source }
        })?;
        Ok(Self {
            path: path.to_owned(),
            hidden,
            listener,
            is_shown: false,
        })
    }

    /// Answers at the path from now on, in place of whoever did before.
    pub fn show(&mut self) {
        match fs::rename(&self.hidden, &self.path) {
            Ok(()) => self.is_shown = true,
            Err(error) => {
                error!(path = %self.path.display(), %error, "no process can take over from this one");
            }
        }
    }

    /// Ready when a process has taken over sockets of `listeners`: it serves, and this one may go.
    pub async fn taken(&mut self, listeners: &[&SharedListener]) -> Succession {
        let mut pause = AcceptPause::default();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause.after(&error, "upgrade").await;
                    continue;
                }
            };
            let pid = stream.peer_cred().ok().and_then(|it| it.pid());
            info!(pid, "a process asks for the listening sockets");
            let handed = timeout(PATIENCE, hand_over(stream, listeners)).await;
            match handed.unwrap_or(Err(UpgradeError::Slow)) {
                Ok(taken) => {
                    info!(pid, ?taken, "the process took over");
                    // The file is the other's.
                    self.is_shown = false;
                    return Succession { taken, pid };
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(pid, %error, cause, "the process did not take over; this one serves on");
                }
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let left = if self.is_shown {
            &self.path
        } else {
            &self.hidden
        };
        // After a takeover neither is there.
        let _gone = fs::remove_file(left).is_err();
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = StdListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Passes the sockets on, and waits until the other process serves; the names of those that it took.
async fn hand_over(
    stream: UnixStream,
    listeners: &[&SharedListener],
) -> Result<Vec<String>, UpgradeError> {
    let user = stream.peer_cred().map_err(UpgradeError::Broken)?;
    check_user(user.uid())?;
    send_sockets(&stream, listeners)
        .await
        .map_err(UpgradeError::Broken)?;
    let mut stream = BufReader::new(stream);
    let line = read_line(&mut stream).await?;
    let Message::Ready { taken } = Message::parse(&line, "ready")? else {
        return Err(Message::unexpected(&line, "ready"));
    };
    let go = Message::Go.to_line();
    stream
        .write_all(go.as_bytes())
        .await
        .map_err(UpgradeError::Broken)?;
    let line = read_line(&mut stream).await?;
    match Message::parse(&line, "serving")? {
        Message::Serving => Ok(taken),
        _ => Err(Message::unexpected(&line, "serving")),
    }
}

async fn send_sockets(stream: &UnixStream, listeners: &[&SharedListener]) -> io::Result<()> {
    let passed = |it: &&SharedListener| Passed {
        name: it.name().to_owned(),
        address: it.configured().to_string(),
        is_kept: it.is_kept(),
    };
    let sockets = listeners.iter().map(passed).collect();
    let version = VERSION;
    let line = Message::Sockets { version, sockets }.to_line();
    let descriptors: Vec<_> = listeners.iter().map(|it| it.as_fd()).collect();
    let (mut rest, mut descriptors) = (line.as_bytes(), descriptors.as_slice());
    while !rest.is_empty() {
        let send = || send_with(stream, rest, descriptors);
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        // They went with the first byte.
        (rest, descriptors) = (&rest[sent..], &[]);
    }
    Ok(())
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> Result<String, UpgradeError> {
    let mut line = String::new();
    let mut bounded = stream.take(LINE_MAX as u64);
    let read = bounded.read_line(&mut line).await;
    match read.map_err(UpgradeError::Broken)? {
        0 => Err(UpgradeError::Broken(io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(line),
    }
}
