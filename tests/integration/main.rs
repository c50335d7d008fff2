//! keyway as its users meet it: a real process, real sockets and real peers, and what nodes saw.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and it may say more"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the process under test keeps the wall's time"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a story is told from its beginning to its end"
)]
#![allow(
    clippy::format_push_string,
    reason = "short texts, written for the reader"
)]
#![allow(
    clippy::float_cmp,
    reason = "counts and sums of powers of two are exact"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests are read in place"
)]

mod support;

mod access_log;
mod admin;
mod bodies;
mod cli;
mod deadline;
mod demo;
mod deploy;
mod differential;
mod drain;
mod eject;
mod floods;
mod forwarded;
mod grpc;
mod hedge;
mod hold;
mod http1;
mod http2;
mod http2_nodes;
mod ketama_nginx;
mod keys;
mod limits;
mod load;
mod log;
mod metrics;
mod names;
mod page;
mod path;
mod pool;
mod probes;
mod prometheus;
mod proxy_protocol;
mod real;
mod reference;
mod reload;
mod retry;
mod start;
mod streams;
mod suspect;
mod systemd;
mod takeover;
mod tls;
mod traces;
mod upgrade;
mod watch;
