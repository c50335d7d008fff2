//! Pure: who the spans are of.

use opentelemetry_proto::tonic::resource::v1::Resource;
use percent_encoding::percent_decode_str;

use super::text;

/// What OpenTelemetry's environment variables say (OpenTelemetry, "Environment Variable
/// Specification").
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`: `key=value,...`, percent-encoded.
    pub resource_attributes: Option<String>,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: fields of each request to the receiver, in the same form.
    pub headers: Option<String>,
}

/// This process, as `environment` describes it, and else by itself; `instance` tells it from others.
pub fn resource(environment: &Environment, instance: &str) -> Resource {
    let mut pairs = vec![
        ("service.name".to_owned(), "keyway".to_owned()),
        (
            "service.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("service.instance.id".to_owned(), instance.to_owned()),
    ];
    let given = environment.resource_attributes.as_deref();
    let mut given = list(given.unwrap_or_default());
    if let Some(name) = environment
        .service_name
        .as_ref()
        .filter(|it| !it.is_empty())
    {
        given.push(("service.name".to_owned(), name.clone()));
    }
    for (key, value) in given {
        match pairs.iter_mut().find(|it| it.0 == key) {
            Some(pair) => pair.1 = value,
            None => pairs.push((key, value)),
        }
    }
    let attributes = pairs.iter().map(|(key, value)| text(key, value));
    Resource {
        attributes: attributes.collect(),
        ..Resource::default()
    }
}

/// The pairs of `key=value,...`; what is none is left out.
pub(super) fn list(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|it| it.split_once('='));
    let decoded = |it: &str| {
        percent_decode_str(it.trim())
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = pairs.map(|(key, value)| (decoded(key), decoded(value)));
    pairs.filter(|(key, _)| !key.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::any_value::Value;
    use super::*;

    #[test]
    fn the_environment_names_the_service() {
        let environment = Environment {
            service_name: Some("edge".to_owned()),
            resource_attributes: Some("service.name=no,a=b%2Cc, d = e,odd,=x".to_owned()),
            headers: None,
        };
        let found = resource(&environment, "i-1");
        let text = |it: Option<Value>| match it {
            Some(Value::StringValue(text)) => text,
            _ => String::new(),
        };
        let found = found.attributes.into_iter();
        let found: Vec<_> = found
            .map(|it| (it.key, text(it.value.and_then(|it| it.value))))
            .collect();
        let expected = [
            ("service.name", "edge"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", "i-1"),
            ("a", "b,c"),
            ("d", "e"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }
}
