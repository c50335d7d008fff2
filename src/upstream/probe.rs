//! One probe of a node: a connection, what is asked over it, and whether the answer is good.
//!
//! The connection begins as those of requests do, with the cluster's TLS and PROXY protocol, and is
//! new each time: only that shows that a node still accepts any. It ends with the answer.

use std::error::Error;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::Protocol;
use super::connect::{ConnectError, Opening, begin};
use super::endpoint::Endpoint;
use crate::health::check::{BodyPattern, Check, HttpCheck, grpc};
use crate::net::WireError;
use crate::proxy_protocol::Version;
use crate::tls::{ClientTls, Offer};
use crate::topology::Address;

mod http1;
mod http2;

/// What is read of an answer's body, in bytes: many times a health page.
const BODY_MAX: usize = 64 << 10;

/// Whom nodes see.
const USER_AGENT: &str = concat!("keyway/", env!("CARGO_PKG_VERSION"));

/// A probe of one node.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Where the node is.
    pub endpoint: &'a Endpoint,
    /// The port to ask at, where it is not the node's.
    pub port: Option<NonZeroU16>,
    /// How long it may take.
    pub limit: Duration,
    /// What is asked.
    pub check: &'a Check,
    /// What is spoken to the node.
    pub protocol: Protocol,
    /// The TLS that its connections are under, if any.
    pub tls: Option<&'a ClientTls>,
    /// How connections are introduced; a probe's is nobody's but keyway's.
    pub introduces: Option<Version>,
}

/// Why a probe found a node wanting.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There was no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchange by HTTP/1.1 failed.
    #[error("there is no answer")]
    Http1(#[from] WireError),
    /// The exchange by HTTP/2 failed.
    #[error("there is no answer")]
    Http2(#[from] h2::Error),
    /// What is to be asked is no request for this node.
    #[error("there is no such request")]
    Request(#[from] http::Error),
    /// The status is not among those expected.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The body is not as expected.
    #[error("the answer's body does not match")]
    Body,
    /// The health service answered with a failure: it knows no such service, say.
    #[error("the health service says grpc-status {0}")]
    Grpc(String),
    /// What came is no answer of the health service.
    #[error("the answer is none of the health service's")]
    NoHealth,
    /// The health service says so.
    #[error("the service does not serve")]
    NotServing,
}

/// What came by HTTP.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    /// The beginning of the body, at most [`BODY_MAX`]; empty where nobody wants it.
    body: Vec<u8>,
    /// `grpc-status`, in the head or behind the body.
    grpc_status: Option<String>,
}

impl Probe<'_> {
    /// Probes the node. Whoever waits for it keeps to the limit.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn run(self) -> Result<(), ProbeError> {
        let elsewhere = self.port.map(|it| self.endpoint.at_port(it.get()));
        let endpoint = elsewhere.as_ref().unwrap_or(self.endpoint);
        let (offer, http2) = match (self.check, self.protocol) {
            (Check::Grpc { .. }, _) | (_, Protocol::H2) => (Offer::Http2, true),
            (_, Protocol::Http1) => (Offer::Http1, false),
            (_, Protocol::Auto) => (Offer::Either, false),
        };
        let opening = Opening {
            tls: self.tls,
            offer,
            introduces: self.introduces.map(|it| (it, None)),
        };
        let (stream, _) = begin(endpoint, opening, self.limit).await?;
        let http2 = stream.agreed().map_or(http2, |it| it.http2);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match self.check {
            Check::Tcp => Ok(()),
            Check::Http(check) => {
                let host = host(check.host.as_deref(), endpoint);
                let answer = if http2 {
                    let uri = format!("{scheme}://{host}{}", check.path);
                    let request = http::Request::builder().method(&check.method).uri(uri);
                    http2::ask(stream, request, None, check.body.is_some()).await?
                } else {
                    http1::ask(stream, check, &host).await?
                };
                judge(check, &answer)
            }
            Check::Grpc { service } => {
                let uri = format!("{scheme}://{}{}", host(None, endpoint), grpc::PATH);
                let request = http::Request::post(uri)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                let message = Bytes::from(grpc::request(service));
                let answer = http2::ask(stream, request, Some(message), true).await?;
                judge_grpc(&answer)
            }
        }
    }
}

impl ProbeError {
    /// Whether it says nothing of the node: keyway's system has no more to give.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Exhausted { .. }))
    }

    /// It and its causes, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(it) = cause {
            text = format!("{text}: {it}");
            cause = it.source();
        }
        text
    }
}

/// What is sent as Host: a Unix socket has no name.
fn host(set: Option<&str>, endpoint: &Endpoint) -> String {
    match (set, endpoint.address()) {
        (Some(host), _) => host.to_owned(),
        (None, address @ Address::Tcp { .. }) => address.to_string(),
        (None, Address::Srv(name)) => name.domain().to_owned(),
        (None, Address::Unix(_)) => "localhost".to_owned(),
    }
}

fn judge(check: &HttpCheck, answer: &Answer) -> Result<(), ProbeError> {
    if !check.expect.contains(answer.status) {
        return Err(ProbeError::Status(answer.status));
    }
    let is_in = |it: &BodyPattern| it.is_in(&answer.body);
    if check.body.as_ref().is_none_or(is_in) {
        Ok(())
    } else {
        Err(ProbeError::Body)
    }
}

fn judge_grpc(answer: &Answer) -> Result<(), ProbeError> {
    if answer.status != StatusCode::OK {
        return Err(ProbeError::Status(answer.status));
    }
    match (
        answer.grpc_status.as_deref(),
        grpc::is_serving(&answer.body),
    ) {
        (Some("0"), Some(true)) => Ok(()),
        (Some("0"), Some(false)) => Err(ProbeError::NotServing),
        (Some("0") | None, _) => Err(ProbeError::NoHealth),
        (Some(status), _) => Err(ProbeError::Grpc(status.to_owned())),
    }
}
