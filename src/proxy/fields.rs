//! Pure: what a proxy must change in a message's fields before it goes on (RFC 9110 section 7.6).

use http::Version;
use http::header::HeaderValue;

use crate::head::{FieldLine, Fields, Known};

/// Fields that Connection cannot take away: a client could otherwise hide from the node what
/// keyway routed by, or how long the message is.
const PROTECTED: [&[u8]; 9] = [
    b"host",
    b"content-length",
    b"via",
    b"trailer",
    b"authorization",
    b"cookie",
    b"forwarded",
    b"proxy-authenticate",
    b"idempotency-key",
];

/// A message's fields without those of the connection that it came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndToEnd<'a> {
    fields: Fields<'a>,
    /// Whether Connection names fields: nearly always it names none, or only `close` and
    /// `keep-alive`.
    names_fields: bool,
}

impl<'a> EndToEnd<'a> {
    pub(super) fn of(fields: Fields<'a>) -> Self {
        let is_plain =
            |it: &str| it.eq_ignore_ascii_case("keep-alive") || it.eq_ignore_ascii_case("close");
        let names_fields =
            fields.has(Known::Connection) && !fields.members(Known::Connection).all(is_plain);
        Self {
            fields,
            names_fields,
        }
    }

    /// Gives `take` the lines that go on, but for TE: of it only
    /// [`wants_trailers`](Self::wants_trailers) does.
    pub(super) fn each(self, mut take: impl FnMut(FieldLine<'a>)) {
        self.fields.each(|line| {
            if self.goes_on(&line) {
                take(line);
            }
        });
    }

    fn goes_on(self, line: &FieldLine<'_>) -> bool {
        match line.known() {
            // RFC 9110 7.6.1; HTTP2-Settings: RFC 9113 3.1. Proxy-Authorization is for who asked for it, and
            // keyway asks nobody (RFC 9110 11.7.2).
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthorization
            | Known::Http2Settings
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Te => false,
            _ => !self.names_fields || !self.is_named(line.name()),
        }
    }

    /// Whether `TE: trailers` goes on: gRPC demands it, and it says nothing of the connection.
    pub(super) fn wants_trailers(self) -> bool {
        self.fields.lists(Known::Te, "trailers")
    }

    fn is_named(self, name: &[u8]) -> bool {
        let mut options = self.fields.members(Known::Connection);
        options.any(|it| it.as_bytes().eq_ignore_ascii_case(name)) && !is_protected(name)
    }
}

/// The protocols that Upgrade names, but for h2c: clients begin HTTP/2 with prior knowledge, and
/// through a tunnel nobody would read it (RFC 9113 3.1 has done away with it).
pub(super) fn protocols(fields: Fields<'_>) -> impl Iterator<Item = &str> {
    let named = fields.members(Known::Upgrade);
    // A version may follow (RFC 9110 7.8).
    let is_h2c = |it: &str| {
        it.split('/')
            .next()
            .unwrap_or(it)
            .eq_ignore_ascii_case("h2c")
    };
    named.filter(move |it| !is_h2c(it))
}

fn is_protected(name: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    let begin = name.get(..FORWARDED.len()).unwrap_or_default();
    begin.eq_ignore_ascii_case(FORWARDED)
        || PROTECTED.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// How this process names itself in Via: what finds a loop (RFC 9110 7.6.3).
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: String,
    /// The entries for messages received by HTTP/1.0, 1.1 and 2: written once, shared after.
    entries: [HeaderValue; 3],
}

impl Pseudonym {
    /// A name of `keyway-` and these bits. They should be random, so that only this very process
    /// takes a message for its own.
    #[expect(clippy::missing_panics_doc, reason = "hex digits are a field's value")]
    pub fn new(bits: u64) -> Self {
        let name = format!("keyway-{bits:016x}");
        let entry = |version: &str| {
            HeaderValue::try_from(format!("{version} {name}")).expect("hex digits must be a value")
        };
        let entries = ["1.0", "1.1", "2"].map(entry);
        Self { name, entries }
    }

    /// Whether a message with these fields passed this process before.
    pub(super) fn has_seen(&self, fields: Fields<'_>) -> bool {
        let mut entries = fields.members(Known::Via);
        fields.has(Known::Via)
            && entries.any(|entry| entry.split_ascii_whitespace().nth(1) == Some(&self.name))
    }

    /// The entry for a message that was received by `version`.
    pub(super) fn entry(&self, version: Version) -> &HeaderValue {
        let entry = match version {
            Version::HTTP_10 => 0,
            Version::HTTP_2 => 2,
            _ => 1,
        };
        &self.entries[entry]
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, VIA};

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, value);
        }
        fields
    }

    fn stripped(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let fields = fields(lines);
        let mut names = Vec::new();
        EndToEnd::of(Fields::from(&fields))
            .each(|it| names.push(String::from_utf8(it.name().to_vec()).unwrap()));
        names.sort();
        names
    }

    #[test]
    fn connection_and_what_it_names_go() {
        let found = stripped(&[
            ("connection", "close, X-Hop"),
            ("connection", "x-hop-2"),
            ("x-hop", "1"),
            ("x-hop-2", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("transfer-encoding", "chunked"),
            ("x-stays", "1"),
        ]);
        assert_eq!(found, ["x-stays"]);
    }

    #[test]
    fn connection_cannot_take_away_what_the_node_must_see() {
        let found = stripped(&[
            (
                "connection",
                "host, content-length, cookie, x-forwarded-for, authorization",
            ),
            ("host", "a"),
            ("content-length", "1"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "::1"),
            ("authorization", "x"),
        ]);
        let kept = [
            "authorization",
            "content-length",
            "cookie",
            "host",
            "x-forwarded-for",
        ];
        assert_eq!(found, kept);
    }

    #[test]
    fn te_is_reduced_to_trailers() {
        let te = |value| {
            let fields = fields(&[("te", value)]);
            EndToEnd::of(Fields::from(&fields)).wants_trailers()
        };
        assert!(te("gzip;q=0.5, trailers"));
        assert!(!te("gzip"));
        assert!(stripped(&[("te", "trailers")]).is_empty());
    }

    #[test]
    fn via_finds_a_loop_through_other_proxies() {
        let (ours, other) = (Pseudonym::new(1), Pseudonym::new(2));
        let mut via = fields(&[("via", "1.0 fred, 1.1 p.example.net (Apache)")]);
        assert!(!ours.has_seen(Fields::from(&via)));
        via.append(VIA, ours.entry(Version::HTTP_2).clone());
        via.append(VIA, other.entry(Version::HTTP_11).clone());
        assert!(ours.has_seen(Fields::from(&via)));
        let entry = via.get_all(VIA).iter().nth(1).unwrap();
        assert_eq!(entry, "2 keyway-0000000000000001");
    }
}
