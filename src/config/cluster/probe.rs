//! Pure: the `probe` section of a cluster.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::RangeInclusive;

use http::uri::Authority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

use super::super::place::At;
use super::super::problem::Problem;
use super::super::scalar::{MethodName, Name, Timeout};
use crate::health::check::{BodyPattern, Check, HttpCheck, Statuses};
use crate::health::probe::{ProbeParams, ProbeWhen};

/// How nodes are probed: by tcp, http or grpc.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(in crate::config) struct ProbeFile {
    /// A connection, its TLS included. Default, unless one of the others is given.
    tcp: Option<At<TcpFile>>,
    /// A request, over a connection of its own.
    http: Option<At<HttpFile>>,
    /// A call of `grpc.health.v1.Health/Check`.
    grpc: Option<At<GrpcFile>>,
    /// How often, a tenth more or less; four times as often while a node fails. Default: 2s.
    interval: Option<Timeout>,
    /// How long a probe may take, its connection included. Default: 500ms.
    timeout: Option<Timeout>,
    /// So many good ones in a row, and a node is up, 1 to 255. Default: 2.
    rise: Option<NonZeroU8>,
    /// So many bad ones in a row, and it is down, 1 to 255. Default: 2.
    fall: Option<NonZeroU8>,
    /// The port to ask at. Default: the node's.
    port: Option<NonZeroU16>,
    /// Which nodes are probed: `idle_or_suspect` (those that requests say nothing good of), always or
    /// off. Default: `idle_or_suspect`.
    when: Option<ProbeWhen>,
}

/// A connection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProbeTcp")]
struct TcpFile {}

/// A request and the answers to it that are good.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProbeHttp")]
struct HttpFile {
    /// The path, with a query if need be. Default: /healthz.
    path: Option<ProbePath>,
    /// The method. Default: GET.
    method: Option<MethodName>,
    /// What is sent as Host. Default: the node's address.
    host: Option<At<Name>>,
    /// The status codes that are good: one, a range, or a list of these. Default: 200-399.
    expect: Option<Expect>,
    /// A regular expression that the first 64 KiB of the body must match.
    body: Option<Pattern>,
}

/// The service that is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProbeGrpc")]
struct GrpcFile {
    /// Its name; empty for the whole server. Default: "".
    service: Option<String>,
}

/// A path as it stands in a request's first line.
#[derive(Debug)]
struct ProbePath(String);

/// Status codes: one, a range, or a list of these.
#[derive(Debug)]
struct Expect(Statuses);

/// A regular expression.
#[derive(Debug)]
struct Pattern(BodyPattern);

impl ProbeFile {
    pub(super) fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> ProbeParams {
        let default = ProbeParams::default();
        ProbeParams {
            interval: self.interval.map_or(default.interval, |it| it.0),
            timeout: self.timeout.map_or(default.timeout, |it| it.0),
            rise: self.rise.unwrap_or(default.rise),
            fall: self.fall.unwrap_or(default.fall),
            port: self.port,
            when: self.when.unwrap_or(default.when),
            check: match (self.tcp, self.http, self.grpc) {
                (None, None, None) => default.check,
                (Some(_), None, None) => Check::Tcp,
                (None, Some(http), None) => http.into_check(file, problems),
                (None, None, Some(grpc)) => Check::Grpc {
                    service: grpc.value.service.unwrap_or_default(),
                },
                (tcp, http, grpc) => {
                    let expected = "one of tcp, http and grpc";
                    let last = grpc.map(|it| it.problem(file, expected, "more than one"));
                    let http = http.map(|it| it.problem(file, expected, "more than one"));
                    let tcp = tcp.map(|it| it.problem(file, expected, "more than one"));
                    problems.extend(last.or(http).or(tcp));
                    default.check
                }
            },
        }
    }
}

impl At<HttpFile> {
    fn into_check(self, file: &str, problems: &mut Vec<Problem>) -> Check {
        let default = HttpCheck::default();
        let http = self.value;
        if let Some(host) = &http.host
            && host.value.0.parse::<Authority>().is_err()
        {
            let found = format!("{:?}", host.value.0);
            problems.push(host.problem(file, "a host, with its port if need be", found));
        }
        Check::Http(HttpCheck {
            path: http.path.map_or(default.path, |it| it.0),
            method: http.method.map_or(default.method, |it| it.0),
            host: http.host.map(|it| it.value.0),
            expect: http.expect.map_or(default.expect, |it| it.0),
            body: http.body.map(|it| it.0),
        })
    }
}

/// A status code or a range of them, as written.
fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| {
        let code = text.trim().parse().ok();
        code.filter(|it| (200..=599).contains(it))
    };
    let range = code(from)?..=code(to)?;
    (!range.is_empty()).then_some(range)
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a status code from 200 to 599, a range such as 200-399, or a list of them",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Expect, E> {
                let range = statuses(text);
                let range = range.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                Ok(Expect(Statuses(vec![range])))
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Expect, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Expect, A::Error> {
                let mut all = Vec::new();
                while let Some(Expect(Statuses(one))) = seq.next_element()? {
                    all.extend(one);
                }
                Ok(Expect(Statuses(all)))
            }
        }
        value.deserialize_any(Any)
    }
}

impl JsonSchema for Expect {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProbeExpect".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 200, "maximum": 599 },
            { "type": "string", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$|\\$\\{" },
        ] });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<'de> Deserialize<'de> for ProbePath {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        let is_plain = text.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
        if text.starts_with('/') && is_plain {
            return Ok(Self(text));
        }
        let error = format!("expected a path such as /healthz, found {text:?}");
        Err(D::Error::custom(error))
    }
}

impl JsonSchema for ProbePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProbePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^/[!-\"$-~]*$|\\$\\{" })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        BodyPattern::new(&text)
            .map(Self)
            .map_err(|_| D::Error::custom(format!("expected a regular expression, found {text:?}")))
    }
}

impl JsonSchema for Pattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProbePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
