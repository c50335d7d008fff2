//! keyway: a sidecar proxy that gives an application transparent sharding and failover.
//!
//! The modules below are declared in dependency order: a module names only modules above it
//! (`tests/architecture.rs` holds that). Reading from the top is reading from the ground up.

// Foundation: no domain knowledge.
pub mod units;
pub mod backoff;
pub mod drain;
pub mod telemetry;

// Domain: pure, no I/O, no clock.
pub mod reason;
pub mod head;
pub mod placement;
pub mod key;
pub mod topology;
pub mod health;
pub mod retry;
pub mod routing;

// Mechanisms: codecs, sockets, pools.
pub mod net;
pub mod upstream;

// Live state: the one swapped state and its one writer.
pub mod cluster;

// Edges.
pub mod proxy;
pub mod config;
pub mod admin;

// Composition.
pub mod app;
pub mod cli;
