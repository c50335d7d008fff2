//! What the integration tests have for starting keyway and other servers.
#![allow(
    dead_code,
    unused_imports,
    reason = "the integration tests use all of it"
)]

#[path = "../integration/support/client.rs"]
mod client;
#[path = "../integration/support/dns.rs"]
mod dns;
#[path = "../integration/support/keyway.rs"]
mod keyway;
#[path = "../integration/support/node.rs"]
mod node;
#[path = "../integration/support/server.rs"]
mod server;

pub use client::{Client, Reply};
pub use dns::{Kind, NameServer, Record, Says};
pub use keyway::{Keyway, until};
pub use node::Node;
pub use server::Server;
