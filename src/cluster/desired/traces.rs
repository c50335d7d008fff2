//! Pure: which requests are traced, and who is told.

use super::Sample;
use crate::otlp::Endpoint;
use crate::units::Ratio;

/// What becomes of requests' traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Who takes the spans; `None`: there are none, and what requests say of their trace goes on as
    /// it came.
    pub otlp: Option<Endpoint>,
    /// How many traces that begin here are recorded.
    pub sample: Sample,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            otlp: None,
            sample: Sample::of(Ratio::percent(1)),
        }
    }
}
