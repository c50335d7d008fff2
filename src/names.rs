//! Names of DNS: what they stand for, found in the background, again and again.
//!
//! [`Schedule`] says what is due when and [`Known`] what answers come to, both pure; [`Resolver`]
//! asks. A name server that fails, is silent or says that there is nothing takes nothing away: the
//! last good answer stays (in the spirit of RFC 8767, and without its end: whether a node still is
//! where it was is told by connecting to it). What is done with the addresses is not decided here.

use crate::telemetry::Counter;

mod answer;
mod resolver;
mod schedule;
mod search;

pub use answer::{ADDRESSES_MAX, Failure, Kept, Known};
pub use resolver::{Found, Resolver, SystemFiles};
pub use schedule::{Ended, LOOKUPS_MAX, Schedule};

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A host's: its addresses are A and AAAA records.
    Host(String),
    /// A service's: its hosts and their ports are SRV records (RFC 2782).
    Service(String),
}

/// How lookups ended; written by the one task that looks names up.
#[derive(Debug, Default)]
pub struct LookupCounters {
    /// With addresses.
    pub ok: Counter,
    /// With the answer that there are none.
    pub empty: Counter,
    /// With a name server's refusal, or without reaching one.
    pub failed: Counter,
    /// Without an answer in time.
    pub timeout: Counter,
    /// Addresses beyond those that are kept of a name, by each answer that had them.
    pub cut: Counter,
}

impl LookupCounters {
    /// Counts how one lookup ended.
    pub fn count<T>(&self, ended: &Result<T, Failure>) {
        let counter = match ended {
            Ok(_) => &self.ok,
            Err(Failure::Empty) => &self.empty,
            Err(Failure::Refused(_)) => &self.failed,
            Err(Failure::TimedOut) => &self.timeout,
        };
        counter.increment();
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(name) | Self::Service(name) => f.write_str(name),
        }
    }
}
