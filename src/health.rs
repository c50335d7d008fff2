//! Pure: what keyway observed of a node, and when it is passed by for it.
//!
//! A [`Standing`] is what real requests met, packed into one word that data threads compare and
//! swap, and a [`Suspicion`] what they wait for in vain; a [`Probed`] is what active probes met. A
//! node is well when none speaks against it. Placement never looks here: a node that is not well is
//! skipped when a node is picked, and no other key moves.

pub mod check;
mod eject;
mod failures;
mod latency;
mod limit;
pub mod probe;
mod quantile;
mod rate;
mod standing;
mod suspect;

pub use eject::{EjectParams, RateParams, WhenAllBad};
pub use failures::FailureList;
pub use latency::Latency;
pub use limit::AdaptiveLimit;
pub use quantile::{QuantileWindow, Recent};
pub use rate::{RateWindow, Sample, outliers};
pub use standing::{Blame, Standing, Verdict};
pub use suspect::{Other, Overdue, Suspicion, is_suspect, is_too_late, patience};

/// Milliseconds on the process's own monotonic clock.
pub type Millis = u64;

/// What active probes say of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Probed {
    /// Nothing: it was not probed, or not often enough to be believed.
    #[default]
    Unknown,
    /// It answers as it should.
    Up,
    /// It does not.
    Down,
}

impl Probed {
    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// What the word says that [`Self`] was kept as.
    pub fn from_word(word: u8) -> Self {
        match word {
            1 => Self::Up,
            2 => Self::Down,
            _ => Self::Unknown,
        }
    }
}
