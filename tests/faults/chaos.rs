//! A proxy in front of a node that does to connections what networks and dying processes do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a half-closed connection is still read.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// What is done to connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: what comes is passed on.
    Pass,
    /// New ones are accepted; nothing is read any more.
    Deaf,
    /// They are reset, new ones as soon as they are accepted.
    Reset,
    /// They are reset when a request comes on them.
    ResetOnRequest,
    /// They end after so many bytes of a response.
    Cut { after: usize, end: End },
    /// Each ends at a random moment while it is idle.
    CloseIdle,
    /// After a response this side is closed; what still comes is read and not answered.
    HalfClose,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a FIN.
    Close,
    /// By a RST.
    Reset,
}

/// A running proxy; dropping it ends it.
pub struct Chaos {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Chaos {
    /// Listens on `address` in front of `node`.
    pub fn start(runtime: &Handle, address: SocketAddr, node: SocketAddr) -> Self {
        let (mode, modes) = watch::channel(Mode::Pass);
        let _runtime = runtime.enter();
        let listener = crate::network::listen(address).unwrap();
        let accepting = runtime.spawn(accept(listener, node, modes));
        Self {
            address,
            mode,
            accepting,
        }
    }

    /// Does this from now on.
    pub fn turn(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, node: SocketAddr, modes: watch::Receiver<Mode>) {
    let mut random = crate::load::Random(u64::from(node.port()));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if *modes.borrow() == Mode::Reset {
            reset(client);
            continue;
        }
        let random = crate::load::Random(random.next());
        tokio::spawn(relay(client, node, modes.clone(), random));
    }
}

/// Passes on what comes, in pieces, until either side ends or the mode says so.
///
/// An answer is taken to be complete with each piece, which the small ones are: they are one write.
async fn relay(
    mut client: TcpStream,
    node: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    mut random: crate::load::Random,
) {
    let Ok(mut node) = TcpStream::connect(node).await else {
        return reset(client);
    };
    let _unsupported = client.set_nodelay(true);
    let _unsupported = node.set_nodelay(true);
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut idle, mut answered) = (false, 0);
    loop {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Reset => return reset(client),
            Mode::Deaf => {
                if modes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Mode::HalfClose if idle => {
                let _gone = client.shutdown().await;
                let rest = async { while client.read(&mut up).await.is_ok_and(|it| it > 0) {} };
                let _over = timeout(HALF_CLOSED, rest).await;
                return;
            }
            Mode::Pass
            | Mode::ResetOnRequest
            | Mode::Cut { .. }
            | Mode::CloseIdle
            | Mode::HalfClose => {}
        }
        let moment = Duration::from_micros(random.next() % 30_000);
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            () = sleep(moment), if idle && mode == Mode::CloseIdle => return,
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                if mode == Mode::ResetOnRequest {
                    return reset(client);
                }
                (idle, answered) = (false, 0);
                if node.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = node.read(&mut down) => {
                let Ok(mut read @ 1..) = read else { return };
                idle = true;
                if let Mode::Cut { after, .. } = mode {
                    read = read.min(after.saturating_sub(answered));
                }
                answered += read;
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
                if let Mode::Cut { after, end } = mode && answered >= after {
                    return match end {
                        End::Close => drop(client),
                        End::Reset => reset(client),
                    };
                }
            }
        }
    }
}

/// Ends a connection by a RST: a socket that lingers for no time does.
fn reset(stream: TcpStream) {
    let _gone = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
