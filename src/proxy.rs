//! The data path: from a client's connection to a node's response and back.
//!
//! A request's way runs downhill and once: [`connection`] reads it, [`dispatch`] finds route, key
//! and shard, [`queue`] finds a place at a node, [`forward`] holds the whole failover, [`attempt`] is one try at one node, and
//! [`body`] streams the response back, holding everything that must see its true end.
//!
//! A request lives and dies on one data thread. It sees one state from its first line to its last.

mod access_log;
mod answer;
mod attempt;
mod body;
mod connection;
mod deadline;
mod dispatch;
mod entrance;
mod error;
mod exchange;
mod fields;
mod forward;
mod hedge;
mod hold;
mod journey;
mod outcome;
mod queue;
mod reply;
mod request;
mod retry_after;
mod rewrite;
mod spans;
mod thread;
mod trace;
mod view;
mod websocket;

pub use entrance::Entrance;
pub use fields::Pseudonym;
pub use thread::{DataThread, Fleet, Surroundings, ThreadPort};
