//! Pure: which failures of an attempt a list of the configuration names.

/// Failures by the stage in which an attempt ended, and status codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureList {
    /// No connection could be made.
    pub connect: bool,
    /// The connection broke before the response's head.
    pub reset: bool,
    /// An attempt timed out.
    pub timeout: bool,
    /// Response status codes, 5xx or 429, sorted.
    pub statuses: Vec<u16>,
}

impl Default for FailureList {
    fn default() -> Self {
        let statuses = vec![502, 503, 504];
        Self {
            connect: true,
            reset: true,
            timeout: true,
            statuses,
        }
    }
}
