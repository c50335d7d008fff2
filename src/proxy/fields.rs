//! Pure: what a proxy must change in a message's fields before it goes on (RFC 9110 section 7.6).

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Version, header};

/// Fields that concern one connection only, beside those that Connection names
/// (RFC 9110 7.6.1; HTTP2-Settings: RFC 9113 3.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that Connection cannot take away: a client could otherwise hide from the node what
/// keyway routed by, or how long the message is.
fn is_protected(name: &HeaderName) -> bool {
    const END_TO_END: [HeaderName; 8] = [
        HOST,
        CONTENT_LENGTH,
        VIA,
        TRAILER,
        header::AUTHORIZATION,
        header::COOKIE,
        header::FORWARDED,
        PROXY_AUTHENTICATE,
    ];
    END_TO_END.contains(name) || name.as_str().starts_with("x-forwarded-")
}

/// Removes what concerns the connection that the message came by. `TE: trailers` stays: gRPC
/// demands it, and it says nothing of the connection.
pub(super) fn strip_hop_by_hop(fields: &mut HeaderMap) {
    let wants_trailers = lists(fields, &TE, "trailers");
    // Nearly every message names no option, or only `close` and `keep-alive`.
    if fields.contains_key(CONNECTION) {
        for name in named_by_connection(fields) {
            fields.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
    fields.remove(TE);
    if wants_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    tokens(fields, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !is_protected(name))
        .collect()
}

/// Whether the list field `name` has the member `token`, whatever parameters follow it.
fn lists(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(fields, name).any(|it| {
        let bare = it.split(';').next().unwrap_or(it).trim_end();
        bare.eq_ignore_ascii_case(token)
    })
}

/// The members of the list field `name`, over all its lines (RFC 9110 5.6.1).
fn tokens<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = fields
        .get_all(name)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let members = lines.flat_map(|line| line.split(','));
    members.map(str::trim).filter(|it| !it.is_empty())
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
    pub(super) fn has_seen(&self, fields: &HeaderMap) -> bool {
        tokens(fields, &VIA).any(|entry| entry.split_ascii_whitespace().nth(1) == Some(&self.name))
    }

    /// Adds the entry for a message that was received by `version`.
    pub(super) fn add_to(&self, fields: &mut HeaderMap, version: Version) {
        let entry = match version {
            Version::HTTP_10 => 0,
            Version::HTTP_2 => 2,
            _ => 1,
        };
        fields.append(VIA, self.entries[entry].clone());
    }
}

#[cfg(test)]
mod tests {
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
        let mut fields = fields(lines);
        strip_hop_by_hop(&mut fields);
        let mut names: Vec<_> = fields.keys().map(ToString::to_string).collect();
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
        let mut kept = fields(&[("te", "gzip;q=0.5, trailers")]);
        strip_hop_by_hop(&mut kept);
        assert_eq!(kept[TE], "trailers");
        assert!(stripped(&[("te", "gzip")]).is_empty());
    }

    #[test]
    fn via_finds_a_loop_through_other_proxies() {
        let (ours, other) = (Pseudonym::new(1), Pseudonym::new(2));
        let mut via = fields(&[("via", "1.0 fred, 1.1 p.example.net (Apache)")]);
        assert!(!ours.has_seen(&via));
        ours.add_to(&mut via, Version::HTTP_2);
        other.add_to(&mut via, Version::HTTP_11);
        assert!(ours.has_seen(&via));
        let entry = via.get_all(VIA).iter().nth(1).unwrap();
        assert_eq!(entry, "2 keyway-0000000000000001");
    }
}
