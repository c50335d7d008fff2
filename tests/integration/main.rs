//! What can only be shown with real sockets and real peers.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not in their helpers"
)]

mod ketama_nginx;
