//! Pure: what clients may ask of this process, and what is counted when they ask for more.

use std::time::Duration;

use crate::telemetry::Counter;

/// The bounds of clients' connections and requests, over all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bounds of a request's head.
    pub head: HeadLimits,
    /// From the first byte of a head to its last, to the second.
    pub head_wait: Duration,
    /// How long a client may send nothing of a body that is waited for.
    pub body_wait: Duration,
    /// How long a connection may have no request, to the second.
    pub idle: Duration,
    /// Connections at once, over all threads.
    pub connections: usize,
    /// HTTP/2 streams of a connection at once.
    pub streams: u32,
    /// The requests that a connection may bring before it is closed; `None` for any number.
    pub requests_per_connection: Option<u32>,
    /// How old a connection may be when it is answered and not closed then, to the second; `None`
    /// for any age.
    pub connection_age: Option<Duration>,
    /// The bytes of a request's body; `None` for any number.
    pub body_bytes: Option<u64>,
    /// What is held of an HTTP/2 stream's response that the client does not read yet, in bytes.
    pub stream_buffer: usize,
    /// How many streams of an HTTP/2 connection its client may reset, or have reset by what it sends,
    /// within a second; of frames without content it is ten times as many.
    pub resets_per_second: u32,
    /// What is held of bodies for who does not take them, over all connections, in bytes: beyond it
    /// no new request is taken.
    pub buffered_bytes: usize,
    /// What is read of a body that nobody wants, so that the connection can go on, in bytes.
    pub drain_bytes: usize,
}

/// The bounds of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// All of its bytes.
    pub bytes: usize,
    /// Its fields.
    pub fields: usize,
    /// The bytes of its target.
    pub target: usize,
}

impl HeadLimits {
    /// What the limits can be set to at most: larger heads would not fit what reads them.
    pub const MAX: Self = Self {
        bytes: 64 << 10,
        fields: 256,
        target: 32 << 10,
    };
}

/// Between the defaults of `HAProxy` (16 KiB, 101 fields) and nginx (32 KiB); RFC 9112 section 3
/// asks for targets of 8000 bytes at least.
impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes: 32 << 10,
            fields: 100,
            target: 8 << 10,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(30),
            // As nginx's `keepalive_timeout`.
            idle: Duration::from_secs(75),
            connections: 10_000,
            // RFC 9113 6.5.2 advises at least 100.
            streams: 100,
            requests_per_connection: None,
            connection_age: None,
            body_bytes: None,
            stream_buffer: 64 << 10,
            buffered_bytes: 256 << 20,
            resets_per_second: 100,
            drain_bytes: 64 << 10,
        }
    }
}

/// A limit that can be reached: the values of a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A head was larger than [`HeadLimits::bytes`].
    HeadBytes,
    /// A head had more fields than [`HeadLimits::fields`].
    HeadFields,
    /// A target was longer than [`HeadLimits::target`].
    TargetBytes,
    /// A head took longer than [`Limits::head_wait`].
    HeadWait,
    /// Nothing of a body came for [`Limits::body_wait`].
    BodyWait,
    /// A connection was without a request for [`Limits::idle`].
    Idle,
    /// A connection would have been one more than [`Limits::connections`].
    Connections,
    /// A stream would have been one more than [`Limits::streams`].
    Streams,
    /// A connection brought [`Limits::requests_per_connection`].
    RequestsPerConnection,
    /// A connection was as old as [`Limits::connection_age`].
    ConnectionAge,
    /// A body was larger than [`Limits::body_bytes`].
    BodyBytes,
    /// A request came while [`Limits::buffered_bytes`] were held.
    BufferedBytes,
    /// An HTTP/2 connection was flooded beyond [`Limits::resets_per_second`], or what h2 takes.
    ResetsPerSecond,
    /// More of a body was left than [`Limits::drain_bytes`].
    DrainBytes,
}

impl Limit {
    /// Every limit, in the order of the enum.
    pub const ALL: [Self; 14] = [
        Self::HeadBytes,
        Self::HeadFields,
        Self::TargetBytes,
        Self::HeadWait,
        Self::BodyWait,
        Self::Idle,
        Self::Connections,
        Self::Streams,
        Self::RequestsPerConnection,
        Self::ConnectionAge,
        Self::BodyBytes,
        Self::BufferedBytes,
        Self::ResetsPerSecond,
        Self::DrainBytes,
    ];

    /// The key of the configuration, and the value of the `limit` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeadBytes => "head_bytes",
            Self::HeadFields => "head_fields",
            Self::TargetBytes => "target_bytes",
            Self::HeadWait => "head_wait",
            Self::BodyWait => "body_wait",
            Self::Idle => "idle",
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::RequestsPerConnection => "requests_per_connection",
            Self::ConnectionAge => "connection_age",
            Self::BodyBytes => "body_bytes",
            Self::BufferedBytes => "buffered_bytes",
            Self::ResetsPerSecond => "resets_per_second",
            Self::DrainBytes => "drain_bytes",
        }
    }
}

/// How often each limit was reached, as one thread counts it.
#[derive(Debug, Default)]
pub struct LimitCounters([Counter; Limit::ALL.len()]);

impl LimitCounters {
    /// The counter of `limit`.
    pub fn of(&self, limit: Limit) -> &Counter {
        &self.0[limit as usize]
    }
}
