//! A probe's request and its answer by HTTP/1.1.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;

use super::{Answer, BODY_MAX, USER_AGENT};
use crate::health::check::HttpCheck;
use crate::http1::Decoder;
use crate::net::{Stream, Wire, WireError};

/// Asks what `check` says, and reads as much of the answer as it wants.
pub(super) async fn ask(
    mut stream: Stream,
    check: &HttpCheck,
    host: &str,
) -> Result<Answer, WireError> {
    let HttpCheck { method, path, .. } = check;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(WireError::Io)?;
    stream.flush().await.map_err(WireError::Io)?;
    let mut wire = Wire::new(stream);
    // As many interim ones as come in time.
    let head = loop {
        let head = poll_fn(|cx| wire.poll_response(cx, method)).await?;
        if !head.line.status.is_informational() {
            break head;
        }
    };
    let mut body = Vec::new();
    let mut decoder = Decoder::new(head.line.length);
    while check.body.is_some() && body.len() < BODY_MAX {
        let Some(frame) = poll_fn(|cx| wire.poll_frame(cx, &mut decoder)).await else {
            break;
        };
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    body.truncate(BODY_MAX);
    Ok(Answer {
        status: head.line.status,
        body,
        grpc_status: None,
    })
}
