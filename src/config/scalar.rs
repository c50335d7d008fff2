//! Pure: scalars that carry their units, and texts that have a syntax.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::or_off::OrOff;
use crate::cluster::desired::{HedgeAfter, LineFormat, Only, Template, TemplateError};
use crate::head::PathPattern;
use crate::otlp::Endpoint;
use crate::sources::Source;
use crate::telemetry::{FilterError, LogFilter};
use crate::topology::Address;
use crate::units::Ratio;

/// A scalar written as text, with what its texts look like.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $pattern:literal, $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Result<$inner, Option<String>> = $parse;
                        parse(text).map($name).map_err(|detail| {
                            let detail = detail.unwrap_or_else(|| {
                                format!("expected {}, found {text:?}", $expected)
                            });
                            E::custom(detail)
                        })
                    }
                }
                text.deserialize_any(Text)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // An environment variable may stand for any text.
                json_schema!({
                    "type": "string",
                    "description": $expected,
                    "pattern": concat!("^(?:", $pattern, ")$|\\$\\{"),
                })
            }
        }
    )*};
}

texts! {
    /// A duration.
    Span(Duration), "a duration with its unit, such as 250ms, 5s, 1m or 2h",
        "[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)", duration;
    /// A duration that is longer than nothing.
    Timeout(Duration), "a duration above 0 with its unit, such as 250ms, 5s, 1m or 2h",
        "[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)", |text| duration(text).and_then(|it| some(!it.is_zero(), it));
    /// When a second node is asked.
    After(HedgeAfter), "a duration above 0 with its unit, such as 50ms, or p95",
        "[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)|p95", |text| match text {
            "p95" => Ok(HedgeAfter::P95),
            _ => duration(text).and_then(|it| some(!it.is_zero(), HedgeAfter::Fixed(it))),
        };
    /// A size in bytes.
    Size(usize), "a size with its unit, such as 512B, 64KiB or 16MiB",
        "[0-9]+(B|KiB|MiB|GiB)", size;
    /// A share.
    Percent(Ratio), "a percentage from 0% to 100%", "[0-9]+(\\.[0-9]+)?%", percent;
    /// What a line of the access log says.
    LineFormatText(OrOff<LineFormat>), "off, text, json or a template such as %{method} %{target} %{status}",
        "off|text|json|.*%\\{[a-z_]+\\}.*", |text| format_word(text).map_or_else(
            || match Template::parse(text) {
                Ok(template) => Ok(OrOff(Some(LineFormat::Template(Arc::new(template))))),
                Err(TemplateError::NoField(_)) => Err(None),
                Err(error) => Err(Some(error.to_string())),
            },
            Ok,
        );
    /// What is logged.
    FilterText(LogFilter), "a level (error, warn, info, debug, trace or off), or directives such as info,keyway::proxy=debug",
        "(([A-Za-z0-9_:]+=)?(error|warn|info|debug|trace|off),?)+", |text| text.parse().map_err(|_: FilterError| None);
    /// Where the access log goes: `None` is standard output.
    LogTarget(Option<String>), "stdout or the path of a file", ".+",
        |text| some(!text.is_empty(), Some(text).filter(|it| *it != "stdout").map(str::to_owned));
    /// Where spans go.
    OtlpUrl(Endpoint), "off, or a URL such as http://127.0.0.1:4318", "https?://.+",
        |text| Endpoint::parse(text).map_err(|it| Some(it.to_string()));
    /// Which requests are logged.
    OnlyText(Only), "all, errors, or slow: with a duration, such as slow:1s",
        "all|errors|slow:[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)", only;
    /// Where a listener listens.
    ListenAddress(Address), "HOST:PORT, [IPV6]:PORT or unix:/PATH", ".+",
        |text| Address::parse_listener(text).map_err(|it| Some(it.to_string()));
    /// A Unix socket's file.
    UnixPath(PathBuf), "unix:/absolute/path", "unix:/.+", unix_path;
    /// Where a node listens.
    NodeAddress(Address), "HOST:PORT, [IPV6]:PORT, srv:_SERVICE._tcp.DOMAIN or unix:/PATH", ".+",
        |text| text.parse::<Address>().map_err(|it| Some(it.to_string()));
    /// Where a name server listens.
    NameServer(SocketAddr), "the address of a name server, such as 10.0.0.2, 10.0.0.2:53 or [fd00::2]:53",
        ".+", name_server;
    /// Peers of a connection.
    Peers(Source), "a network such as 10.0.0.0/8 or fd00::/8, an address, or unix", ".+",
        |text| text.parse::<Source>().map_err(|_| None);
    /// A path's pattern.
    Pattern(PathPattern), "a path pattern such as /users/{id}/**", "/.*",
        |text| text.parse::<PathPattern>().map_err(|it| Some(it.to_string()));
    /// A request method.
    MethodName(Method), "a request method such as GET", "[A-Z]+", method;
    /// The name of a header field.
    FieldName(HeaderName), "the name of a header field, such as x-request-timeout", "[!#$%&'*+.^_`|~0-9A-Za-z-]+",
        |text| text.parse::<HeaderName>().map_err(|_| None);
    /// A host without its port.
    HostName(String), "a host without a port, such as api.local or [::1]", "[^:]+|\\[.+\\]", host;
    /// A name: of a route, a cluster, a shard, a node, a listener.
    Name(String), "a name of 1 to 255 printable characters", "[^\\s\\x00-\\x1f]{1,255}", name;
}

/// The access log's format as one word.
pub(super) fn format_word(text: &str) -> Option<OrOff<LineFormat>> {
    match text {
        "off" => Some(OrOff(None)),
        "text" => Some(OrOff(Some(LineFormat::text()))),
        "json" => Some(OrOff(Some(LineFormat::Json))),
        _ => None,
    }
}

type Parsed<T> = Result<T, Option<String>>;

fn some<T>(holds: bool, value: T) -> Parsed<T> {
    if holds { Ok(value) } else { Err(None) }
}

/// A duration given on the command line.
///
/// # Errors
/// What was expected, when `text` is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration with its unit, such as 250ms, 5s, 1m or 2h";
    duration(text).map_err(|_invalid| expected.to_owned())
}

/// The number before a unit, and the unit.
fn split_unit(text: &str) -> Parsed<(&str, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or(None)?;
    let (number, unit) = text.split_at(digits);
    some(
        !number.is_empty() && !number.starts_with('.') && !number.ends_with('.'),
        (number, unit),
    )
}

fn duration(text: &str) -> Parsed<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(None),
    };
    let number: f64 = number.parse().map_err(|_invalid| None)?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_invalid| None)?;
    // A year: what is longer is a slip, and would overflow clocks.
    some(duration <= Duration::from_hours(24 * 366), duration)
}

fn only(text: &str) -> Parsed<Only> {
    match text {
        "all" => Ok(Only::All),
        "errors" => Ok(Only::Errors),
        _ => {
            let slow = text.strip_prefix("slow:").ok_or(None)?;
            duration(slow).map(Only::Slow)
        }
    }
}

fn size(text: &str) -> Parsed<usize> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(None),
    };
    let number: usize = number.parse().map_err(|_invalid| None)?;
    number.checked_mul(1 << shift).ok_or(None)
}

fn percent(text: &str) -> Parsed<Ratio> {
    let number = text.strip_suffix('%').ok_or(None)?;
    let number: f64 = number.parse().map_err(|_invalid| None)?;
    Ratio::new(number / 100.0).ok_or(None)
}

fn unix_path(text: &str) -> Parsed<PathBuf> {
    let path = text.strip_prefix("unix:").ok_or(None)?;
    some(path.starts_with('/') && path.len() > 1, path.into())
}

fn name_server(text: &str) -> Parsed<SocketAddr> {
    let usual = |address: IpAddr| SocketAddr::new(address, 53);
    let parsed = text.parse().or_else(|_| text.parse().map(usual));
    let address: SocketAddr = parsed.map_err(|_invalid| None)?;
    some(address.port() != 0, address)
}

fn method(text: &str) -> Parsed<Method> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_invalid| None)?;
    some(text.bytes().all(|it| it.is_ascii_uppercase()), method)
}

fn host(text: &str) -> Parsed<String> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    some(bare.is_some() || !text.contains(':'), name(text)?)
}

fn name(text: &str) -> Parsed<String> {
    let printable = |c: char| !c.is_control() && !c.is_whitespace();
    let fits = (1..=255).contains(&text.len()) && text.chars().all(printable);
    some(fits, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "5d",
            ".5s",
            "5.s",
            "1e3s",
            "99999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("0B"), Ok(0));
        for text in [
            "",
            "64",
            "64K",
            "64kb",
            "1.5MiB",
            "-1B",
            "99999999999999999999B",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(percent("20%"), Ok(Ratio::percent(20)));
        assert!(percent("0.5%").is_ok());
        for text in ["20", "%", "101%", "-1%", "x%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn name_servers_listen_on_port_53_unless_said() {
        let parsed = |text| name_server(text).map(|it| it.to_string());
        assert_eq!(parsed("10.0.0.2"), Ok("10.0.0.2:53".to_owned()));
        assert_eq!(parsed("127.0.0.1:5353"), Ok("127.0.0.1:5353".to_owned()));
        assert_eq!(parsed("fd00::2"), Ok("[fd00::2]:53".to_owned()));
        for text in ["", "dns.test", "10.0.0.2:0", "[fd00::2]"] {
            assert!(name_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_printable() {
        assert!(name("users-0").is_ok() && name("ключ").is_ok());
        assert!(name("").is_err() && name("a b").is_err() && name(&"x".repeat(256)).is_err());
    }
}
