//! keyway as its users meet it: a real process, real sockets, and what the nodes saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]
#![allow(
    clippy::format_push_string,
    clippy::print_stderr,
    reason = "what tests read and say costs nobody anything"
)]
#![allow(unreachable_pub, reason = "one crate, whose helpers are all its own")]
#![allow(
    clippy::disallowed_methods,
    reason = "the process under test keeps the wall's time"
)]
#![allow(missing_docs, reason = "tests are read in place")]

mod support;

mod bodies;
mod keys;
mod path;
mod retry;
