//! Spans on their way to an OpenTelemetry receiver: OTLP over HTTP, as protobuf.
//!
//! Data threads put the spans of a request that ended into a bounded queue ([`SpanQueue`]); one task
//! ([`Exporter`]) sends them in batches. The messages are those of the crate `opentelemetry-proto`.
//!
//! Invariant: a data thread never waits. What the queue has no room for is dropped and counted, as is
//! what the receiver refuses or does not take in time ([`SpanCounts`]).
//!
//! Deliberately not here: OTLP over gRPC, compression, metrics and logs; and the SDK, whose processor
//! and exporter neither count what they drop nor follow a reload.

mod endpoint;
mod export;
mod queue;
mod resource;
mod send;

pub use endpoint::{Endpoint, EndpointError};
pub use export::Exporter;
pub use queue::{SpanCounts, SpanQueue, channel};
pub use resource::{Environment, resource};

pub use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
pub use opentelemetry_proto::tonic::trace::v1::{Span, Status, span, status};

/// An attribute that is text.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

/// An attribute that is a number.
pub fn number(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value.into()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
