//! One request to a receiver, and what its answer means (OTLP 1.x, "OTLP/HTTP").

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Endpoint;
use crate::tls::Offer;

/// What is read of an answer, in bytes: it says how many spans were refused, and why.
const ANSWER_MAX: usize = 64 << 10;

/// Whom receivers see.
const AGENT: &str = concat!("keyway/", env!("CARGO_PKG_VERSION"));

/// A connection to a receiver, made anew where it is gone.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// What a receiver said of the spans that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many of them it refused.
    pub(super) rejected: usize,
    /// Why, or a warning.
    pub(super) message: String,
}

/// Whether spans are sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// No.
    Never,
    /// After a wait of the sender's choice.
    Later,
    /// After the wait that the receiver asks for.
    After(Duration),
}

/// Why a receiver took nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// There is no connection.
    #[error("there is no connection: {0}")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error("there is no answer: {0}")]
    Exchange(#[source] hyper::Error),
    /// It answered that another time is better.
    #[error("the answer is {status}")]
    Later {
        /// The answer.
        status: StatusCode,
        /// How long it asks to wait.
        after: Option<Duration>,
    },
    /// It will not take these.
    #[error("the answer is {0}")]
    Refused(StatusCode),
    /// What it answered cannot be read.
    #[error("the answer cannot be read")]
    Answer,
    /// It took too long.
    #[error("there was no answer in time")]
    TimedOut,
}

impl SendError {
    /// Whether the same spans may be sent once more.
    pub(super) fn repeat(&self) -> Repeat {
        match self {
            Self::Later {
                after: Some(after), ..
            } => Repeat::After(*after),
            Self::Later { after: None, .. }
            | Self::Connect(_)
            | Self::Exchange(_)
            | Self::TimedOut => Repeat::Later,
            Self::Refused(_) | Self::Answer => Repeat::Never,
        }
    }
}

impl Connection {
    /// One to `endpoint`, made when it is needed.
    pub(super) fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            open: None,
        }
    }

    /// Where it goes.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends the message `body` with `headers`. Dropped early it leaves no connection behind.
    ///
    /// # Errors
    /// When the receiver took nothing.
    pub(super) async fn send(
        &mut self,
        body: Bytes,
        headers: &HeaderMap,
    ) -> Result<Taken, SendError> {
        let mut open = match self.open.take() {
            Some(open) if !open.is_closed() => open,
            _ => connect(&self.endpoint).await?,
        };
        open.ready().await.map_err(SendError::Exchange)?;
        let mut request = Request::post(self.endpoint.path.as_str())
            .header(HOST, &self.endpoint.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, AGENT)
            .body(Full::new(body))
            .map_err(|_| SendError::Answer)?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        let response = open.send_request(request).await;
        let response = response.map_err(SendError::Exchange)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|_| SendError::Answer)?.to_bytes();
        self.open = Some(open);
        judge(head.status, &head.headers, &body)
    }
}

/// What an answer means. Of answers that are none of 2xx only 429, 502, 503 and 504 are worth another
/// try ("Retryable Response Codes").
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Taken, SendError> {
    if status.is_success() {
        let answer = ExportTraceServiceResponse::decode(body).map_err(|_| SendError::Answer)?;
        let partial = answer.partial_success.unwrap_or_default();
        return Ok(Taken {
            rejected: usize::try_from(partial.rejected_spans).unwrap_or(0),
            message: partial.error_message,
        });
    }
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return Err(SendError::Refused(status));
    }
    let after = headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let after = after.and_then(|it| it.parse().ok());
    Err(SendError::Later {
        status,
        after: after.map(Duration::from_secs),
    })
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, SendError> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let stream = stream.map_err(SendError::Connect)?;
    let Some(tls) = &endpoint.tls else {
        return open(TokioIo::new(stream)).await;
    };
    let name = ServerName::try_from(endpoint.host.clone());
    let name = name.map_err(|it| SendError::Connect(io::Error::other(it)))?;
    let connecting = TlsConnector::from(tls.config(Offer::Http1)).connect(name, stream);
    let stream = connecting.await.map_err(SendError::Connect)?;
    open(TokioIo::new(stream)).await
}

async fn open<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, SendError>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let handshake = http1::handshake(stream).await;
    let (open, connection) = handshake.map_err(SendError::Exchange)?;
    // It ends with its sender, and what breaks it is told by the exchange.
    tokio::spawn(async move { drop(connection.await) });
    Ok(open)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn judged(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<Taken, SendError> {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, after.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers, body)
    }

    #[test]
    fn only_some_answers_are_worth_another_try() {
        for (status, expected) in [
            (400, Repeat::Never),
            (401, Repeat::Never),
            (404, Repeat::Never),
            (429, Repeat::Later),
            (500, Repeat::Never),
            (502, Repeat::Later),
            (503, Repeat::Later),
            (504, Repeat::Later),
        ] {
            let error = judged(status, None, b"").unwrap_err();
            assert_eq!(error.repeat(), expected, "{status}");
        }
        let error = judged(503, Some("7"), b"").unwrap_err();
        assert_eq!(error.repeat(), Repeat::After(Duration::from_secs(7)));
        let error = judged(503, Some("soon"), b"").unwrap_err();
        assert_eq!(error.repeat(), Repeat::Later);
    }

    #[test]
    fn an_answer_says_how_many_it_refused() {
        assert_eq!(judged(200, None, b"").unwrap(), Taken::default());
        let answer = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: "too old".to_owned(),
            }),
        };
        let taken = judged(200, None, &answer.encode_to_vec()).unwrap();
        assert_eq!((taken.rejected, taken.message.as_str()), (2, "too old"));
    }
}
