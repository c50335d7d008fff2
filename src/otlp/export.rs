//! The task that sends spans in batches.

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::resource::list;
use super::send::{Connection, Repeat, SendError, Taken};
use super::{Endpoint, Environment, Span, SpanCounts};
use crate::backoff::Backoff;

/// A batch of so many spans is sent at once, and a smaller one after so long: the defaults of the SDK
/// (OpenTelemetry, "Batching processor", `maxExportBatchSize` and `scheduledDelayMillis`).
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(5);

/// How long a receiver may take for a batch (OpenTelemetry, "Protocol Exporter", the default timeout).
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a batch is sent at most, and the waits in between: a receiver that restarts is waited for,
/// one that is gone costs the queue's spans and no more.
const TRIES: u32 = 5;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(5),
};

/// The longest that a receiver may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Sends the spans of a queue to whoever is to have them.
#[derive(Debug)]
pub struct Exporter<F> {
    queue: Receiver<Vec<Span>>,
    counts: SpanCounts,
    /// Asked before each batch.
    wanted: F,
    resource: Resource,
    headers: HeaderMap,
    connection: Option<Connection>,
    failing: bool,
}

impl<F: FnMut() -> Option<Endpoint>> Exporter<F> {
    /// One that sends what comes by `queue` where `wanted` says, as spans of `resource`.
    pub fn new(
        queue: Receiver<Vec<Span>>,
        counts: SpanCounts,
        wanted: F,
        resource: Resource,
        environment: &Environment,
    ) -> Self {
        Self {
            queue,
            counts,
            wanted,
            resource,
            headers: headers(environment.headers.as_deref().unwrap_or_default()),
            connection: None,
            failing: false,
        }
    }

    /// Sends until every sender of the queue is gone and the last spans are sent.
    pub async fn run(mut self) {
        while let Some(spans) = self.batch().await {
            let number = spans.len();
            match (self.wanted)() {
                Some(endpoint) => self.export(endpoint, spans).await,
                // The last ones from before a reload.
                None => self.counts.dropped(number),
            }
        }
    }

    /// The next batch; `None` when there will be none.
    async fn batch(&mut self) -> Option<Vec<Span>> {
        let mut batch = self.queue.recv().await?;
        let until = Instant::now() + DELAY;
        while batch.len() < BATCH {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(spans)) => batch.extend(spans),
                // What is there is sent; that it is over is seen by the next call.
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    async fn export(&mut self, endpoint: Endpoint, spans: Vec<Span>) {
        let number = spans.len();
        let connection = self.connection.take();
        let connection = connection.filter(|it| *it.endpoint() == endpoint);
        let mut connection = connection.unwrap_or_else(|| Connection::to(endpoint));
        let sent = self.send(&mut connection, spans).await;
        match sent {
            Ok(Taken { rejected, message }) => {
                let rejected = rejected.min(number);
                self.counts.exported(number - rejected);
                self.counts.rejected(rejected);
                if rejected > 0 || !message.is_empty() {
                    warn!(rejected, message, "the receiver of traces refuses spans");
                }
                if mem::take(&mut self.failing) {
                    info!("the receiver of traces takes spans again");
                }
            }
            Err(error) => {
                match error {
                    SendError::Refused(_) => self.counts.rejected(number),
                    _ => self.counts.failed(number),
                }
                if !mem::replace(&mut self.failing, true) {
                    let receiver = &connection.endpoint().authority;
                    warn!(receiver, %error, "the receiver of traces takes no spans: they are lost");
                }
            }
        }
        self.connection = Some(connection);
    }

    /// Sends `spans` until they are taken, or it is not worth another try.
    async fn send(
        &mut self,
        connection: &mut Connection,
        spans: Vec<Span>,
    ) -> Result<Taken, SendError> {
        let message = Bytes::from(self.message(spans).encode_to_vec());
        let mut tries = 1;
        loop {
            let sending = connection.send(message.clone(), &self.headers);
            let sent = timeout(TIMEOUT, sending).await;
            let error = match sent.unwrap_or(Err(SendError::TimedOut)) {
                Ok(taken) => return Ok(taken),
                Err(error) => error,
            };
            let wait = match error.repeat() {
                Repeat::Later => {
                    BACKOFF.equal_jitter(tries - 1, RandomState::new().hash_one(tries))
                }
                Repeat::After(asked) => asked.min(RETRY_AFTER_MAX),
                Repeat::Never => return Err(error),
            };
            if tries == TRIES {
                return Err(error);
            }
            sleep(wait).await;
            tries += 1;
        }
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        }
    }
}

/// The fields that `text` lists; what is none is left out.
fn headers(text: &str) -> HeaderMap {
    let pairs = list(text).into_iter().filter_map(|(name, value)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    });
    pairs.collect()
}
