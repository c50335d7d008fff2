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

/// The longest text of an attribute, in bytes: what clients send is in spans that wait in a queue of so
/// many requests (the SDK's limit, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`, is none by default).
const TEXT_MAX: usize = 1 << 10;

/// An attribute that is text; what is longer than 1 KiB is cut.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let mut value = value.into();
    if value.len() > TEXT_MAX {
        value.truncate(value.floor_char_boundary(TEXT_MAX));
        value.shrink_to_fit();
    }
    attribute(key, any_value::Value::StringValue(value))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn value(of: KeyValue) -> String {
        match of.value.and_then(|it| it.value) {
            Some(any_value::Value::StringValue(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_text_is_longer_than_it_may_be() {
        assert_eq!(value(text("k", "x".repeat(TEXT_MAX))).len(), TEXT_MAX);
        assert_eq!(value(text("k", "x".repeat(TEXT_MAX + 1))).len(), TEXT_MAX);
        // A char is not cut in two.
        let wide = format!("x{}", "ü".repeat(TEXT_MAX));
        let cut = value(text("k", wide.clone()));
        assert_eq!(cut.len(), TEXT_MAX - 1);
        assert!(wide.starts_with(&cut) && cut.capacity() < wide.len());
    }
}
