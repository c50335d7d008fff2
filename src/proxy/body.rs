//! Bodies on their way: a request's, which may be sent more than once, and a response's, whose end
//! is the end of the request.

/// What may wait behind a piece of an HTTP/1.1 body that is not taken: the rest of what was read.
const BACKLOG: usize = 80 << 10;

mod activity;
mod client;
mod incoming;
mod request;
mod response;
mod transmit;
mod tunnel;
mod upload;

pub(super) use activity::Activity;
pub(super) use client::ClientBody;
pub(super) use incoming::Incoming;
pub(super) use request::{Allowance, ClientFault, Prefix, RequestBody, Source};
pub(super) use response::{BodyError, Broken, Exchange, NodeBody, ResponseBody};
pub(super) use transmit::{Broke, Transmit};
pub(super) use tunnel::Tunnel;
pub(super) use upload::Upload;
