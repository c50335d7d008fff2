//! Pure: the `limits` section of keyway.yaml.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_off::OrOff;
use super::place::At;
use super::problem::Problem;
use super::scalar::{Size, Timeout};
use crate::limits::{HeadLimits, Limits};

/// What clients may ask of this process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct LimitsFile {
    /// A request's head, 1KiB to 64KiB. Default: 32KiB.
    head_bytes: Option<At<Size>>,
    /// Its fields, 1 to 256. Default: 100.
    head_fields: Option<At<usize>>,
    /// Its target, 1B to 32KiB. Default: 8KiB.
    target_bytes: Option<At<Size>>,
    /// From a head's first byte to its last, to the second. Default: 10s.
    head_wait: Option<Timeout>,
    /// How long a client may send nothing of a body that is waited for; once the answer has begun,
    /// how long neither side may. Of gRPC only the answer's head is waited for. Default: 30s.
    body_wait: Option<Timeout>,
    /// How long a connection may have no request, to the second. Default: 75s.
    idle: Option<Timeout>,
    /// Clients' connections at once, at least 1. Default: 10000.
    connections: Option<At<usize>>,
    /// HTTP/2 streams of a connection at once, at least 1. Default: 100.
    streams: Option<At<u32>>,
    /// Requests before a connection is closed, at least 1, or off. Default: off.
    requests_per_connection: Option<At<OrOff<u32>>>,
    /// The age from which a connection is closed with its next answer, to the second, or off.
    /// Default: off.
    connection_age: Option<OrOff<Timeout>>,
    /// A request's body, or off. Default: off.
    body_bytes: Option<OrOff<Size>>,
    /// What is held of an HTTP/2 stream's response that its client does not read, at least 1KiB.
    /// Not counted: every response does that is larger than its client's window. Default: 64KiB.
    stream_buffer: Option<At<Size>>,
    /// What is held of bodies for clients and nodes that do not take them, and to be sent again, over
    /// all connections, at least 1MiB; beyond it new requests are overloaded. Default: 256MiB.
    buffered_bytes: Option<At<Size>>,
    /// How many streams of an HTTP/2 connection its client may reset, or have reset by what it sends,
    /// within a second, at least 1; ten times as many frames may come that carry nothing (SETTINGS,
    /// PING, PRIORITY, `WINDOW_UPDATE`, CONTINUATION, empty DATA), and eight for each that carries
    /// something. Beyond it the connection is closed. Default: 100.
    resets_per_second: Option<At<u32>>,
    /// What is read of a body that nobody wants, so that the connection can go on. Default: 64KiB.
    drain_bytes: Option<Size>,
}

impl LimitsFile {
    pub(super) fn into_limits(self, file: &str, problems: &mut Vec<Problem>) -> Limits {
        let default = Limits::default();
        let mut within = Within { file, problems };
        let max = HeadLimits::MAX;
        let head = HeadLimits {
            bytes: within.size(self.head_bytes, 1 << 10, max.bytes, default.head.bytes),
            fields: within.number(self.head_fields, 1, max.fields, default.head.fields),
            target: within.size(self.target_bytes, 1, max.target, default.head.target),
        };
        let requests = self.requests_per_connection.and_then(|it| {
            if it.0 == Some(0) {
                within.refuse(&it, "a number of at least 1, or off", "0".to_owned());
            }
            it.0
        });
        let or = |given: Option<Timeout>, default: Duration| given.map_or(default, |it| it.0);
        Limits {
            head,
            head_wait: or(self.head_wait, default.head_wait),
            body_wait: or(self.body_wait, default.body_wait),
            idle: or(self.idle, default.idle),
            connections: within.number(self.connections, 1, usize::MAX, default.connections),
            streams: within.number(self.streams, 1, u32::MAX, default.streams),
            requests_per_connection: requests,
            connection_age: self.connection_age.and_then(|it| it.0).map(|it| it.0),
            body_bytes: self.body_bytes.and_then(|it| it.0).map(|it| it.0 as u64),
            stream_buffer: within.size(self.stream_buffer, 1 << 10, 1 << 30, default.stream_buffer),
            buffered_bytes: within.size(
                self.buffered_bytes,
                1 << 20,
                1 << 50,
                default.buffered_bytes,
            ),
            resets_per_second: within.number(
                self.resets_per_second,
                1,
                u32::MAX,
                default.resets_per_second,
            ),
            drain_bytes: self.drain_bytes.map_or(default.drain_bytes, |it| it.0),
        }
    }
}

/// Refuses what is out of a range.
struct Within<'a> {
    file: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Within<'_> {
    fn number<T>(&mut self, given: Option<At<T>>, min: T, max: T, default: T) -> T
    where
        T: Copy + Ord + fmt::Display,
    {
        let Some(given) = given else {
            return default;
        };
        if !(min..=max).contains(&given.value) {
            let expected = format!("a number from {min} to {max}");
            self.refuse(&given, &expected, given.value.to_string());
        }
        given.value
    }

    fn size(&mut self, given: Option<At<Size>>, min: usize, max: usize, default: usize) -> usize {
        let Some(given) = given else {
            return default;
        };
        let bytes = given.value.0;
        if !(min..=max).contains(&bytes) {
            let expected = format!("a size from {min}B to {}KiB", max >> 10);
            self.refuse(&given, &expected, format!("{bytes}B"));
        }
        bytes
    }

    fn refuse<T>(&mut self, at: &At<T>, expected: &str, found: String) {
        self.problems.push(at.problem(self.file, expected, found));
    }
}
