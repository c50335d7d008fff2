//! Bodies on their way: a request's, which may be sent more than once, and a response's, whose end
//! is the end of the request.

mod activity;
mod request;
mod response;

pub(super) use activity::Activity;
pub(super) use request::{ClientFault, Prefix, RequestBody, Source};
pub(super) use response::{Exchange, ResponseBody};
