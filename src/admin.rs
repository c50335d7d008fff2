//! The admin server: what an operator, a probe and Prometheus ask of one sidecar.
//!
//! It runs on the control thread and can stall without a request noticing. What changes something
//! answers only to this machine ([`guard`]). Not here: any metric's meaning, or any decision; the
//! server shows the state and passes commands on.

mod guard;
mod metrics;
mod page;
mod server;
mod view;

pub use metrics::{Metrics, Sources};
pub use server::{Admin, AdminError, serve};
