//! The upgrade in place: a new process takes the listening sockets over from the old one, which drains
//! once the new one serves.
//!
//! They speak by the Unix socket at `upgrade`, a line of JSON for each step:
//!
//! | | says | when |
//! |---|---|---|
//! | old | `sockets`, with the descriptors | a process of the same user connects |
//! | new | `ready`, and which it took | it could serve |
//! | old | `go` | |
//! | new | `serving` | it accepts |
//!
//! Until the last of them the old process serves as if nothing had been: whatever ends or outlasts the
//! exchange ends the upgrade alone. Both accept for a moment, from the one queue that the kernel keeps
//! for both, so that nobody who connects is refused or reset.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod offer;
mod takeover;

pub use offer::{Offer, Succession};
pub use takeover::Takeover;

/// The version of the exchange, which the binaries of both processes must know.
const VERSION: u32 = 1;

/// How long the new process may take to be ready, and each to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest line, in bytes: the names and addresses of as many sockets as go with one message.
const LINE_MAX: usize = 128 << 10;

/// Why sockets are not passed on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The Unix socket cannot be used.
    #[error("the upgrade socket {path}")]
    Socket {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The other process cannot be read or written.
    #[error("the exchange broke off")]
    Broken(#[source] io::Error),
    /// The other process belongs to another user.
    #[error("expected a process of user {own}, found one of {found}")]
    User {
        /// This process's user.
        own: u32,
        /// The other's.
        found: u32,
    },
    /// The other process says something else.
    #[error("expected {expected}, found {found:?}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// The other process knows another exchange.
    #[error("expected version {VERSION} of the exchange, found {0}")]
    Version(u32),
    /// It took too long.
    #[error("no answer within {PATIENCE:?}")]
    Slow,
}

/// A line of the exchange.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Sockets { version: u32, sockets: Vec<Passed> },
    Ready { taken: Vec<String> },
    Go,
    Serving,
}

/// A listening socket on its way; its descriptor has the same place among those that go along.
#[derive(Debug, Deserialize, Serialize)]
struct Passed {
    name: String,
    /// Where its listener is configured to listen.
    address: String,
    /// Whether somebody else listens on it besides.
    is_kept: bool,
}

impl Message {
    fn to_line(&self) -> String {
        let text = serde_json::to_string(self).expect("a message must be JSON");
        text + "\n"
    }

    fn parse(line: &str, expected: &'static str) -> Result<Self, UpgradeError> {
        serde_json::from_str(line).map_err(|_invalid| Self::unexpected(line, expected))
    }

    fn unexpected(line: &str, expected: &'static str) -> UpgradeError {
        let found = line.trim_end().chars().take(80).collect();
        UpgradeError::Unexpected { expected, found }
    }
}

/// Whether the process of user `found` may have the sockets, or give them.
fn check_user(found: u32) -> Result<(), UpgradeError> {
    let own = rustix::process::geteuid().as_raw();
    if found == own {
        Ok(())
    } else {
        Err(UpgradeError::User { own, found })
    }
}
