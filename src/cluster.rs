//! The live state: what was configured, what was observed, and the one writer of both.

pub mod desired;
