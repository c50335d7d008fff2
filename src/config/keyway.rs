//! Pure: keyway.yaml, about this sidecar.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::Start;
use super::access_log::AccessLogFile;
use super::cluster::ClusterFile;
use super::limits::LimitsFile;
use super::log::LogFile;
use super::metrics::MetricsFile;
use super::named::Named;
use super::or_off::OrOff;
use super::place::At;
use super::problem::Problem;
use super::resolver::ResolverFile;
use super::scalar::{
    HostName, ListenAddress, MethodName, Name, Pattern, Peers, Span, Timeout, UnixPath,
};
use super::tls::{Reading, ServerTlsFile};
use super::traces::TracesFile;
use crate::cluster::desired::{ClusterParams, Desired};
use crate::forwarded::{Forwarded, Mode};
use crate::key::KeySpec;
use crate::routing::{MissingKey, Route, RouteMatch};
use crate::topology::Address;

/// A sidecar's own configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "keyway.yaml")]
pub(super) struct KeywayFile {
    /// Where the application connects to. Taken up at start.
    pub(super) listeners: At<Vec<ListenerFile>>,
    /// Where the admin server listens. Taken up at start.
    pub(super) admin: Option<AdminFile>,
    /// Data threads: auto (the cores, at most 4) or a number. Default: auto. Taken up at start.
    pub(super) threads: Option<Threads>,
    /// This sidecar's zone. Default: none.
    pub(super) zone: Option<String>,
    /// The topology file, relative to this one. Default: topology.yaml. Taken up at start.
    pub(super) topology: Option<String>,
    /// Without a valid topology at the start: wait (not ready until there is one) or serve (ready,
    /// answering `no_healthy_node`). Default: wait. Taken up at start.
    pub(super) start: Option<Start>,
    /// Where a new process asks for the listening sockets, to take over: `unix:/PATH`, or off. Default:
    /// off. Taken up at start.
    pub(super) upgrade: Option<OrOff<UnixPath>>,
    /// After SIGTERM: how long it is unready and still accepts. Default: 5s.
    pub(super) pre_drain: Option<Span>,
    /// After that: how long what is in flight may finish. Default: 20s.
    pub(super) drain_timeout: Option<Span>,
    /// It drains by itself when there was a client's connection and then none for so long, or off.
    /// Default: off.
    pub(super) exit_when_idle: Option<OrOff<Timeout>>,
    /// What the process says of itself.
    #[serde(default)]
    log: LogFile,
    /// A line for each request: off, text or json, or the keys format, to, only and sample. Default: off.
    access_log: Option<AccessLogFile>,
    /// Which requests are traced, and who is told.
    #[serde(default)]
    traces: TracesFile,
    /// What Prometheus is told.
    #[serde(default)]
    metrics: MetricsFile,
    /// Which requests go to which cluster, and where their key is; the first match wins.
    #[serde(default)]
    pub(super) routes: Vec<RouteFile>,
    /// How to talk to each cluster of the topology.
    #[serde(default)]
    pub(super) clusters: BTreeMap<String, ClusterFile>,
    /// What clients may ask of this process.
    #[serde(default)]
    limits: LimitsFile,
    /// Who is asked what the names of nodes stand for.
    #[serde(default)]
    resolver: ResolverFile,
}

/// One listening socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub(super) struct ListenerFile {
    /// Its name, unique.
    pub(super) name: At<Name>,
    /// `HOST:PORT` or `unix:/PATH`.
    pub(super) address: ListenAddress,
    /// Whether clients may switch to WebSocket, or to another protocol that a node takes. Default:
    /// true.
    pub(super) websocket: Option<bool>,
    /// TLS towards clients. Default: none. Whether there is any is taken up at start.
    pub(super) tls: Option<ServerTlsFile>,
    /// The PROXY protocol, by which others say whose a connection is. Default: none.
    #[serde(default)]
    pub(super) proxy_protocol: ProxyProtocolFile,
    /// What becomes of X-Forwarded-* and Forwarded, and whose are believed.
    #[serde(default)]
    pub(super) forwarded: ForwardedFile,
}

/// What becomes of what requests say of where they come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Forwarded")]
pub(super) struct ForwardedFile {
    /// append (it stays, the peer's address is added, what is absent is set), replace or pass. Default:
    /// append.
    pub(super) mode: Option<Mode>,
    /// Networks, addresses, or unix: whose word goes on and is believed. Default: nobody is told apart,
    /// and nobody believed here.
    #[serde(default)]
    pub(super) trust: Vec<Peers>,
    /// How many trusted proxies stand in front: `client_ip` is the element of X-Forwarded-For so many
    /// from the right. Default: 0, the peer.
    pub(super) hops: Option<At<u8>>,
}

/// Who says by the PROXY protocol (version 1 or 2) whose a connection is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProxyProtocol")]
pub(super) struct ProxyProtocolFile {
    /// Networks, addresses, or unix: connections from there begin with a header, others do not.
    #[serde(default)]
    pub(super) from: Vec<Peers>,
}

/// The admin server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct AdminFile {
    /// `HOST:PORT` or `unix:/PATH`. Default: 127.0.0.1:9901.
    pub(super) address: Option<ListenAddress>,
}

/// A number of data threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    Auto,
    Exactly(NonZeroUsize),
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(super) struct RouteFile {
    /// Its name, unique.
    name: At<Name>,
    /// Which requests take it: every condition given must hold; {} matches all.
    r#match: MatchFile,
    /// Where the key is: a source, or a list of which the first that yields counts.
    key: At<KeySources>,
    /// What happens without a key: reject, spread (any node) or value:TEXT. Default: reject.
    on_missing_key: Option<OnMissingKey>,
    /// The cluster that serves it.
    cluster: At<Name>,
    /// From the first byte of the request to the response's head. Default: 10s.
    timeout: Option<Timeout>,
    /// How long no byte may move in a body or a stream. Default: 60s.
    idle_timeout: Option<Timeout>,
    /// Whether a request with an Idempotency-Key may be repeated: ignore or honour. Default:
    /// ignore.
    idempotency_key: Option<IdempotencyKey>,
}

/// A route's conditions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Match")]
struct MatchFile {
    /// The path, byte for byte as it came: literal segments, {name} for one, ** at the end.
    path: Option<Pattern>,
    /// The methods; GET does not imply HEAD. Default: any.
    #[serde(default)]
    methods: Vec<MethodName>,
    /// The host without its port.
    host: Option<HostName>,
    /// Header fields and the value that each must have.
    #[serde(default)]
    headers: BTreeMap<String, At<String>>,
    /// The listener's name.
    listener: Option<At<Name>>,
}

/// Whether an Idempotency-Key makes a request repeatable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum IdempotencyKey {
    Ignore,
    Honour,
}

/// One source or several.
#[derive(Debug)]
struct KeySources(Vec<String>);

#[derive(Debug)]
struct OnMissingKey(MissingKey);

impl KeywayFile {
    /// The part of the desired state that this file gives.
    pub(super) fn into_desired(
        self,
        file: &str,
        zone: Option<String>,
        named: &mut Named,
        problems: &mut Vec<Problem>,
    ) -> Desired {
        let default = Desired::default();
        check_listeners(&self.listeners, file, problems);
        let listeners: Vec<_> = self.listeners.iter().map(|it| it.name.0.as_str()).collect();
        let mut names = Vec::new();
        let mut routes = Vec::new();
        for route in self.routes {
            if names.contains(&route.name.0) {
                let found = format!("{:?} again", route.name.0);
                problems.push(route.name.problem(file, "a name of its own", found));
            }
            names.push(route.name.0.clone());
            routes.extend(route.into_route(file, &listeners, problems));
        }
        let mut clusters = BTreeMap::<String, ClusterParams>::new();
        for (name, cluster) in self.clusters {
            clusters.insert(name, cluster.into_params(file, named, problems));
        }
        let access_log = self.access_log.map(|it| it.into_access_log(named));
        let traces = self.traces.into_traces(&mut Reading {
            file,
            named,
            problems,
        });
        let mut listener_tls = BTreeMap::new();
        for listener in self.listeners.value {
            let mut reading = Reading {
                file,
                named,
                problems,
            };
            if let Some(tls) = listener.tls.and_then(|it| it.into_tls(&mut reading)) {
                listener_tls.insert(listener.name.value.0, tls);
            }
        }
        Desired {
            routes,
            clusters,
            listener_tls,
            zone: zone.or(self.zone).unwrap_or_default(),
            pre_drain: self.pre_drain.map_or(default.pre_drain, |it| it.0),
            drain_timeout: self.drain_timeout.map_or(default.drain_timeout, |it| it.0),
            exit_when_idle: self.exit_when_idle.and_then(|it| it.0).map(|it| it.0),
            log: self.log.into_params(),
            access_log: access_log.unwrap_or_default(),
            traces,
            metrics: self.metrics.detail.unwrap_or_default(),
            limits: self.limits.into_limits(file, problems),
            nameservers: self.resolver.nameservers(),
            ..default
        }
    }

    /// The admin server's address.
    pub(super) fn admin_address(&self) -> Address {
        let written = self.admin.as_ref().and_then(|it| it.address.as_ref());
        let default = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 9901,
        };
        written.map_or(default, |it| it.0.clone())
    }
}

fn check_listeners(listeners: &At<Vec<ListenerFile>>, file: &str, problems: &mut Vec<Problem>) {
    // What was set aside may have been one.
    if listeners.is_empty() && problems.is_empty() {
        problems.push(listeners.problem(file, "at least one listener", "none"));
    }
    for (at, listener) in listeners.iter().enumerate() {
        let name = &listener.name;
        if listeners[..at].iter().any(|it| it.name.0 == name.0) {
            let found = format!("{:?} again", name.0);
            problems.push(name.problem(file, "a name of its own", found));
        }
        if let Some(hops) = &listener.forwarded.hops
            && hops.value > 0
            && listener.forwarded.trust.is_empty()
        {
            let found = format!("{} and nobody in trust", hops.value);
            problems.push(hops.problem(file, "0 hops, or whom to trust", found));
        }
    }
}

impl ForwardedFile {
    pub(super) fn to_forwarded(&self) -> Forwarded {
        Forwarded {
            mode: self.mode.unwrap_or_default(),
            trust: self.trust.iter().map(|it| it.0).collect(),
            hops: self.hops.as_ref().map_or(0, |it| it.value.into()),
        }
    }
}

impl RouteFile {
    /// The cluster that it names, and what to say when there is none of that name.
    pub(super) fn cluster_or_problem(&self, file: &str) -> (String, Problem) {
        let name = self.cluster.0.clone();
        let found = format!("{name:?}");
        let problem = self
            .cluster
            .problem(file, "the name of a cluster in the topology", found);
        (name, problem)
    }

    fn into_route(
        self,
        file: &str,
        listeners: &[&str],
        problems: &mut Vec<Problem>,
    ) -> Option<Route> {
        let before = problems.len();
        let matcher = self.r#match.into_match(file, listeners, problems);
        let key = KeySpec::parse(&self.key.0, matcher.path.as_ref());
        let key = key.map_err(|error| {
            problems.push(
                self.key
                    .problem(file, error.expected, format!("{:?}", error.found)),
            );
        });
        let route = Route {
            name: self.name.value.0,
            matcher,
            key: key.ok()?,
            on_missing_key: self.on_missing_key.map_or(MissingKey::Reject, |it| it.0),
            cluster: self.cluster.value.0,
            timeout: self.timeout.map_or(Duration::from_secs(10), |it| it.0),
            idle_timeout: self.idle_timeout.map_or(Duration::from_mins(1), |it| it.0),
            honour_idempotency_key: self.idempotency_key == Some(IdempotencyKey::Honour),
        };
        (problems.len() == before).then_some(route)
    }
}

impl MatchFile {
    fn into_match(self, file: &str, listeners: &[&str], problems: &mut Vec<Problem>) -> RouteMatch {
        let mut headers = Vec::new();
        for (name, value) in self.headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => headers.push((name, value.value)),
                Err(_invalid) => {
                    problems.push(value.problem(
                        file,
                        "the name of a header field",
                        format!("{name:?}"),
                    ));
                }
            }
        }
        if let Some(listener) = &self.listener
            && !listeners.contains(&listener.0.as_str())
        {
            let expected = format!("the name of a listener ({})", listeners.join(", "));
            problems.push(listener.problem(file, expected, format!("{:?}", listener.0)));
        }
        RouteMatch {
            path: self.path.map(|it| it.0),
            methods: self.methods.into_iter().map(|it| it.0).collect(),
            host: self.host.map(|it| it.0),
            headers,
            listener: self.listener.map(|it| it.value.0),
        }
    }
}

// === scalars ===

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Threads;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto or a number of threads from 1 to 256")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Threads, E> {
                match text.parse() {
                    Ok(number) => self.visit_u64(number),
                    Err(_) if text == "auto" => Ok(Threads::Auto),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Threads, E> {
                let threads = usize::try_from(number).ok().filter(|it| *it <= 256);
                let threads = threads.and_then(NonZeroUsize::new).map(Threads::Exactly);
                threads
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
            }
        }
        value.deserialize_any(Any)
    }
}

impl JsonSchema for Threads {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threads".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^auto$|^[0-9]+$|\\$\\{" },
            { "type": "integer", "minimum": 1, "maximum": 256 },
        ] })
    }
}

impl<'de> Deserialize<'de> for KeySources {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = KeySources;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key source such as header:x-user-id, or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<KeySources, E> {
                Ok(KeySources(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<KeySources, A::Error> {
                let mut sources = Vec::new();
                while let Some(source) = seq.next_element()? {
                    sources.push(source);
                }
                Ok(KeySources(sources))
            }
        }
        value.deserialize_any(Any)
    }
}

impl JsonSchema for KeySources {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

impl<'de> Deserialize<'de> for OnMissingKey {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        match text.split_once(':') {
            None if text == "reject" => Ok(Self(MissingKey::Reject)),
            None if text == "spread" => Ok(Self(MissingKey::Spread)),
            Some(("value", value)) if !value.is_empty() => {
                Ok(Self(MissingKey::Value(value.to_owned())))
            }
            _ => Err(D::Error::custom(format!(
                "expected reject, spread or value:TEXT, found {text:?}"
            ))),
        }
    }
}

impl JsonSchema for OnMissingKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OnMissingKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(reject|spread|value:.+)$|\\$\\{" })
    }
}
