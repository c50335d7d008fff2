//! keyway as its users meet it: a real process, real sockets, and what the nodes saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests are read in place")]

mod support;

mod path;
mod reload;
