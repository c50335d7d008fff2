//! A keyway process, nodes that do as they are told, and a client that sees raw bytes.

mod authority;
mod browser;
mod client;
mod dns;
mod keyway;
mod node;
mod python;
mod server;

pub use authority::Authority;
pub use browser::{Browser, Scheme};
pub use client::{Client, Reply, find, read_to};
pub use dns::{Kind, NameServer, Record, Says};
pub use keyway::{Keyway, topology, until};
pub use node::{Node, Request, Then};
pub use python::python;
pub use server::Server;
