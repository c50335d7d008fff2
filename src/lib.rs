//! keyway: a sidecar proxy that gives an application transparent sharding and failover.
//!
//! The modules below are declared in dependency order: a module names only modules above it
//! (`tests/architecture.rs` holds that). Reading from the top is reading from the ground up.
//!
//! # The life of a request
//!
//! 1. One of the data threads accepts the connection ([`net`]) and keeps it, or hands it to the
//!    thread with the fewest. From here on everything happens on one thread.
//! 2. `proxy::connection` waits, holding nothing, until there is something to read; then a worker
//!    reads HTTP/1.1 ([`http1`]) or has h2 read HTTP/2, whichever the first bytes speak.
//! 3. `proxy::dispatch` takes the thread's view of the state, which the request keeps to its end,
//!    reads the head once, as the one view of either protocol ([`head::RequestHead`]), finds the
//!    route ([`routing::RouteTable`]), the key ([`key::KeySpec`]) and with it the shards that hold
//!    the key ([`placement`]).
//! 4. `proxy::forward` is the whole failover: it takes the next node ([`cluster::Pick`]), makes an
//!    attempt, and asks the policy ([`retry::Policy::decide`]) what follows a failure.
//! 5. `proxy::attempt` takes a connection from the thread's pool ([`upstream::Pool`]), sends the
//!    request, its head written from the view, and waits for the response's head, as long as the
//!    attempt and the route may take.
//! 6. The body streams back. It holds the connection, the node's in-flight count and the request's
//!    outcome, so that whatever ends it, metrics, the access log and traces ([`otlp`]) see the true
//!    end, once.
//!
//! # The life of a reload
//!
//! 1. [`config::Watcher`] is woken by an event in a folder, a poll, SIGHUP or the admin server. It
//!    reads both files until two reads are equal, and parses them by the code of `keyway check`.
//! 2. What they ask for ([`cluster::desired::Desired`]) goes to the one writer
//!    ([`cluster::Writer`]) as a [`cluster::Command`].
//! 3. [`cluster::reconcile()`], a pure function and the code of `keyway ring diff`, makes the next
//!    state of it, carrying over by name all that was observed; or it refuses, and nothing changes.
//! 4. The writer swaps the state in one store. Each data thread sees a new generation at its next
//!    request, or within a second, and takes over the pools of the nodes that stayed.

// Foundation: no domain knowledge.
pub mod units;
pub mod backoff;
pub mod drain;
pub mod spares;
pub mod telemetry;

// Domain: pure, no I/O, no clock.
pub mod reason;
pub mod limits;
pub mod sources;
pub mod head;
pub mod forwarded;
pub mod trace_context;
pub mod placement;
pub mod key;
pub mod topology;
pub mod health;
pub mod retry;
pub mod routing;

// Mechanisms: codecs, sockets, names, pools.
pub mod http1;
pub mod proxy_protocol;
pub mod tls;
pub mod net;
pub mod names;
pub mod upstream;
pub mod otlp;

// Live state: the one swapped state and its one writer.
pub mod cluster;

// Edges.
pub mod proxy;
pub mod config;
pub mod admin;

// Composition.
pub mod app;
pub mod cli;
