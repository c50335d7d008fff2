//! A probe's request and its answer by HTTP/2.
//!
//! By h2 itself: connection and exchange are one future here, so that nothing is left running when a
//! probe is given up.

use std::pin::pin;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use http::HeaderMap;
use http::request::Builder;

use super::{Answer, BODY_MAX, ProbeError, USER_AGENT};
use crate::net::Stream;

/// Sends `request` with `message` as its body, and reads the answer, with its body if that is wanted.
pub(super) async fn ask(
    stream: Stream,
    request: Builder,
    message: Option<Bytes>,
    wants_body: bool,
) -> Result<Answer, ProbeError> {
    let request = request.header("user-agent", USER_AGENT).body(())?;
    let (sender, connection) = handshake(stream).await?;
    let mut exchange = pin!(exchange(sender, request, message, wants_body));
    let answer = tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The answer may have come with the end.
        _ended = connection => exchange.await,
    };
    Ok(answer?)
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: http::Request<()>,
    message: Option<Bytes>,
    wants_body: bool,
) -> Result<Answer, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut sending) = sender.send_request(request, message.is_none())?;
    if let Some(message) = message {
        sending.send_data(message, true)?;
    }
    let (head, mut incoming) = response.await?.into_parts();
    let mut answer = Answer {
        status: head.status,
        body: Vec::new(),
        grpc_status: grpc_status(&head.headers),
    };
    if !wants_body {
        return Ok(answer);
    }
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        answer.body.extend_from_slice(&data);
        if answer.body.len() >= BODY_MAX {
            answer.body.truncate(BODY_MAX);
            return Ok(answer);
        }
    }
    if let Some(trailers) = incoming.trailers().await? {
        answer.grpc_status = answer.grpc_status.or_else(|| grpc_status(&trailers));
    }
    Ok(answer)
}

fn grpc_status(fields: &HeaderMap) -> Option<String> {
    let status = fields.get("grpc-status")?.to_str().ok()?;
    Some(status.to_owned())
}
