//! Pure: quantities that carry their meaning in their type.

use std::fmt;

/// A share between nothing and all, `0.0..=1.0`; written as `20%` in files.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// All of it.
    pub const ALL: Self = Self(1.0);

    /// `value` when it lies in `0.0..=1.0`.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// `percent` hundredths, at most 100.
    ///
    /// # Panics
    /// When `percent` is above 100: it is for constants.
    pub const fn percent(percent: u8) -> Self {
        assert!(percent <= 100, "a ratio must not exceed 100 %");
        Self(percent as f64 / 100.0)
    }

    /// The share as a fraction of one.
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}
