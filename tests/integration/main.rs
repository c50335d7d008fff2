//! keyway as its users meet it: a real process, real sockets and real peers, and what nodes saw.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests are read in place"
)]

mod support;

mod admin;
mod cli;
mod demo;
mod drain;
mod http2;
mod ketama_nginx;
mod path;
mod real;
mod reload;
