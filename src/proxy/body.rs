//! Bodies on their way: a request's, which may be sent more than once, and a response's, whose end
//! is the end of the request.

mod activity;
mod client;
mod request;
mod response;
mod transmit;

pub(super) use activity::Activity;
pub(super) use client::ClientBody;
pub(super) use request::{ClientFault, Prefix, RequestBody, Source};
pub(super) use response::{BodyError, Broken, Exchange, NodeBody, ResponseBody};
pub(super) use transmit::{Broke, Transmit};
