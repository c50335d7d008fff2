//! A keyway process, nodes that do as they are told, and a client that sees raw bytes.

mod client;
mod keyway;
mod node;

pub use client::{Client, Reply, find};
pub use keyway::{Keyway, topology, until};
pub use node::{Node, Request, Then};
