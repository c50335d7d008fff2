//! What systemd is told and what it passes on: `sd_notify(3)`, its watchdog, and `sd_listen_fds(3)`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, warn};

use crate::net::{Inherited, InheritedSocket};
use crate::proxy::Fleet;

/// How long a data thread may show no sign of life: each gives one a second.
const STILL: Duration = Duration::from_secs(3);

/// Who wants to know how this process is; nobody, where the environment names none.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// After how long without a word from this process it is ended.
    watchdog: Option<Duration>,
}

/// When each data thread last gave a sign of life.
#[derive(Debug, Default)]
struct Pulse(Vec<(u32, Instant)>);

impl Supervisor {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let socket = connect(&name);
        if let Err(error) = &socket {
            warn!(?name, %error, "NOTIFY_SOCKET cannot be used: nobody is told how it is");
        }
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let micros = number("WATCHDOG_USEC").filter(|it| is_ours && *it > 0);
        Self {
            socket: socket.ok(),
            watchdog: micros.map(Duration::from_micros),
        }
    }

    /// It waits: why is said in `status`.
    pub fn waits(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// It serves, or a reload is over.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// A reload begins; [`ready`](Self::ready) tells of its end.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It goes down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// The process `pid` took over, and is the service's now.
    pub fn succeeded_by(&self, pid: i32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// Keeps the watchdog quiet as long as every thread of `fleet` turns, as this one does.
    pub async fn watch(&self, fleet: &Fleet) -> Infallible {
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut pulse = Pulse::default();
        let mut was_alive = true;
        let mut ticks = interval(watchdog / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let is_alive = pulse.is_felt(fleet.beats(), now);
            if is_alive {
                self.tell("WATCHDOG=1");
            } else if was_alive {
                error!(still = ?STILL, "a data thread stands still: the watchdog is not told otherwise");
            }
            was_alive = is_alive;
        }
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        // It is the supervisor's loss.
        if let Err(error) = socket.send(state.as_bytes()) {
            debug!(%error, state, "systemd was not told");
        }
    }
}

/// A socket to who listens at `name`: a path, or with `@` in front a name without a file.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // Nobody's request waits for systemd.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

// === impl Pulse ===

impl Pulse {
    /// Whether every thread's count of `beats` has moved lately.
    fn is_felt(&mut self, beats: impl Iterator<Item = u32>, now: Instant) -> bool {
        let mut all = true;
        for (index, beat) in beats.enumerate() {
            if index == self.0.len() {
                self.0.push((beat, now));
            }
            let (last, moved) = &mut self.0[index];
            if *last != beat {
                (*last, *moved) = (beat, now);
            }
            all &= now.saturating_duration_since(*moved) <= STILL;
        }
        all
    }
}

/// The sockets that systemd listens on for this process (`LISTEN_FDS`), by what `FileDescriptorName=`
/// says. Takes them out of the environment, and must be called before there are other threads.
///
/// # Errors
/// When one of them is no listening stream socket.
pub fn activated() -> io::Result<Inherited> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = match passed.take_tcp_listener(index) {
            Ok(socket) => socket.map(Into::into),
            Err(_other) => passed.take_unix_listener(index)?.map(Into::into),
        };
        if let Some(socket) = socket {
            inherited.push(InheritedSocket {
                name,
                address: None,
                socket,
                is_kept: true,
            });
        }
    }
    Ok(inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_stands_still_is_enough() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::default();
        assert!(pulse.is_felt([1, 1].into_iter(), at(0)));
        assert!(pulse.is_felt([4, 4].into_iter(), at(3)));
        assert!(pulse.is_felt([5, 4].into_iter(), at(6)));
        assert!(!pulse.is_felt([6, 4].into_iter(), at(7)));
        // It went on.
        assert!(pulse.is_felt([7, 5].into_iter(), at(8)));
    }

    #[test]
    fn a_name_without_a_file_is_reached() {
        let name = format!("keyway-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor {
            socket: Some(connect(OsStr::new(&format!("@{name}"))).unwrap()),
            watchdog: None,
        };
        supervisor.ready();
        let mut told = [0; 64];
        let length = listener.recv(&mut told).unwrap();
        assert_eq!(&told[..length], b"READY=1\nSTATUS=serving");
    }
}
