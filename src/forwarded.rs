//! Pure: whom a request comes from, as proxies tell each other: X-Forwarded-For, -Proto and -Host, and
//! Forwarded (RFC 7239).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::head::{Fields, Known};
use crate::sources::Sources;

/// What becomes of these fields on their way through a listener, and whose are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// What is done with them.
    pub mode: Mode,
    /// Whose are believed. When nobody is named nobody is told apart: what came goes on by `mode`, and
    /// is believed by nobody here. Else it goes on only from these peers.
    pub trust: Sources,
    /// How many trusted proxies stand in front: the client is who the first of them says, the element
    /// of X-Forwarded-For that is so many from the right. Zero: the client is the peer.
    pub hops: usize,
}

/// What is done with the fields that a request brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They stay, and the peer's address is added; what is absent is set.
    #[default]
    Append,
    /// They go, and keyway's own take their place.
    Replace,
    /// They stay as they are.
    Pass,
}

/// What keyway says of a request itself.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// What the request brought.
    pub fields: Fields<'a>,
    /// What is done with it.
    pub mode: Mode,
    /// Whom the request came from; `None` by a Unix socket.
    pub peer: Option<IpAddr>,
    /// The scheme that it came by.
    pub scheme: &'static str,
    /// Whom it is for, empty when it does not say.
    pub authority: &'a [u8],
}

/// A value that keyway says, after what was said before.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Of X-Forwarded-For.
    For(&'a Said<'a>),
    /// Of X-Forwarded-Proto or -Host.
    Text(&'a [u8]),
    /// Of Forwarded.
    Element(&'a Said<'a>),
}

impl Forwarded {
    /// What is done with what `peer` says.
    pub fn mode_for(&self, peer: Option<IpAddr>) -> Mode {
        let is_believed = self.trust.is_empty() || self.trust.contains(peer);
        match self.mode {
            Mode::Append if !is_believed => Mode::Replace,
            mode => mode,
        }
    }

    /// The client of a request that `peer` brought with `fields`: who the proxies in front say it is,
    /// if `peer` is believed and they say enough, else the peer.
    pub fn client(&self, peer: Option<IpAddr>, fields: Fields<'_>) -> Option<IpAddr> {
        if self.hops == 0 || !self.trust.contains(peer) {
            return peer;
        }
        let count = fields.members(Known::ForwardedFor).count();
        let at = count.checked_sub(self.hops);
        let member = at.and_then(|at| fields.members(Known::ForwardedFor).nth(at));
        member.and_then(address).or(peer)
    }
}

/// The address of an element of X-Forwarded-For, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()));
    ip.as_ref().map(IpAddr::to_canonical)
}

/// Whether a field that is `known`, or has this name, goes on as it came.
pub fn stays(mode: Mode, known: Known, name: &[u8]) -> bool {
    match known {
        // What stays of these is said anew, in one line.
        Known::ForwardedFor | Known::Forwarded => mode == Mode::Pass,
        Known::ForwardedProto | Known::ForwardedHost => mode != Mode::Replace,
        Known::Other => mode != Mode::Replace || !is_of_family(name),
        _ => true,
    }
}

/// Whether `name` is one of X-Forwarded-Port, -Prefix and so on.
fn is_of_family(name: &[u8]) -> bool {
    const FAMILY: &[u8] = b"x-forwarded-";
    let begin = name.get(..FAMILY.len()).unwrap_or_default();
    begin.eq_ignore_ascii_case(FAMILY)
}

impl Said<'_> {
    /// Gives `line` each field that is said, with its value.
    pub fn each(&self, mut line: impl FnMut(&'static str, Value<'_>)) {
        if self.mode == Mode::Pass {
            return;
        }
        let replaces = self.mode == Mode::Replace;
        let sets = |known| replaces || !self.fields.has(known);
        if self.peer.is_some() || !replaces && self.fields.has(Known::ForwardedFor) {
            line("x-forwarded-for", Value::For(self));
        }
        if sets(Known::ForwardedProto) {
            line("x-forwarded-proto", Value::Text(self.scheme.as_bytes()));
        }
        if sets(Known::ForwardedHost) && !self.authority.is_empty() {
            line("x-forwarded-host", Value::Text(self.authority));
        }
        // Only those who began with it go on with it.
        if self.fields.has(Known::Forwarded) {
            line("forwarded", Value::Element(self));
        }
    }

    /// Writes the lines that came, as one list that another element follows.
    fn before(&self, out: &mut Vec<u8>, known: Known) {
        if self.mode == Mode::Replace || !self.fields.has(known) {
            return;
        }
        let begin = out.len();
        for line in self.fields.known(known).filter(|it| !it.is_empty()) {
            out.extend_from_slice(if out.len() > begin { b", " } else { b"" });
            out.extend_from_slice(line);
        }
        let goes_on = known == Known::Forwarded || self.peer.is_some();
        if goes_on && out.len() > begin {
            out.extend_from_slice(b", ");
        }
    }
}

impl Value<'_> {
    /// Writes the value at the end of `out`.
    pub fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::For(said) => {
                said.before(out, Known::ForwardedFor);
                said.peer.into_iter().for_each(|it| append_ip(out, it));
            }
            Self::Element(said) => {
                said.before(out, Known::Forwarded);
                match said.peer {
                    Some(ip @ IpAddr::V4(_)) => {
                        out.extend_from_slice(b"for=");
                        append_ip(out, ip);
                    }
                    Some(ip @ IpAddr::V6(_)) => {
                        out.extend_from_slice(b"for=\"[");
                        append_ip(out, ip);
                        out.extend_from_slice(b"]\"");
                    }
                    None => out.extend_from_slice(b"for=unknown"),
                }
                if !said.authority.is_empty() {
                    out.extend_from_slice(b";host=\"");
                    out.extend_from_slice(said.authority);
                    out.extend_from_slice(b"\"");
                }
                out.extend_from_slice(b";proto=");
                out.extend_from_slice(said.scheme.as_bytes());
            }
        }
    }
}

/// Writes `ip`. Of IPv4 digit by digit: every request has it, and formatting takes ten times as long.
pub(crate) fn append_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        // Writing to a Vec cannot fail.
        let _infallible = write!(out, "{ip}");
        return;
    };
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::sources::Source;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn trusting(sources: &[&str]) -> Sources {
        sources
            .iter()
            .map(|it| it.parse::<Source>().unwrap())
            .collect()
    }

    fn said(lines: &[(&'static str, &'static str)], mode: Mode, peer: Option<&str>) -> Vec<String> {
        let map = map(lines);
        let said = Said {
            fields: Fields::from(&map),
            mode,
            peer: peer.map(|it| it.parse().unwrap()),
            scheme: "http",
            authority: b"app.test:80",
        };
        let mut lines = Vec::new();
        said.each(|name, value| {
            let mut line = format!("{name}: ").into_bytes();
            value.append_to(&mut line);
            lines.push(String::from_utf8(line).unwrap());
        });
        lines
    }

    const BROUGHT: [(&str, &str); 6] = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2, 192.0.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "else.test"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-prefix", "/a"),
    ];

    #[test]
    fn what_is_absent_is_said() {
        let own = [
            "x-forwarded-for: 10.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: app.test:80",
        ];
        assert_eq!(said(&[], Mode::Append, Some("10.0.0.1")), own);
        assert_eq!(said(&[], Mode::Replace, Some("10.0.0.1")), own);
        assert!(said(&[], Mode::Pass, Some("10.0.0.1")).is_empty());
        assert_eq!(said(&[], Mode::Append, None), own[1..]);
    }

    #[test]
    fn what_came_is_added_to_or_replaced() {
        assert_eq!(
            said(&BROUGHT, Mode::Append, Some("10.0.0.1")),
            [
                "x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3, 10.0.0.1",
                "forwarded: for=192.0.2.1, for=10.0.0.1;host=\"app.test:80\";proto=http",
            ]
        );
        assert_eq!(
            said(&BROUGHT, Mode::Append, None),
            [
                "x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3",
                "forwarded: for=192.0.2.1, for=unknown;host=\"app.test:80\";proto=http",
            ]
        );
        assert_eq!(
            said(&BROUGHT, Mode::Replace, Some("2001:db8::1")),
            [
                "x-forwarded-for: 2001:db8::1",
                "x-forwarded-proto: http",
                "x-forwarded-host: app.test:80",
                "forwarded: for=\"[2001:db8::1]\";host=\"app.test:80\";proto=http",
            ]
        );
        assert!(said(&BROUGHT, Mode::Pass, Some("10.0.0.1")).is_empty());
    }

    #[test]
    fn what_is_said_anew_does_not_stay() {
        let stays = |mode| {
            let names = BROUGHT.iter().map(|it| it.0);
            names
                .filter(|it| stays(mode, Known::of(it.as_bytes()), it.as_bytes()))
                .collect::<Vec<_>>()
        };
        let single = [
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-prefix",
        ];
        assert_eq!(stays(Mode::Append), single);
        assert!(stays(Mode::Replace).is_empty());
        assert_eq!(stays(Mode::Pass).len(), BROUGHT.len());
    }

    #[test]
    fn addresses_are_written_as_they_are_shown() {
        for text in [
            "0.0.0.0",
            "1.20.255.109",
            "10.100.99.9",
            "2001:db8::1",
            "::ffff:1.2.3.4",
        ] {
            let mut written = Vec::new();
            append_ip(&mut written, text.parse().unwrap());
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn who_is_not_believed_is_replaced() {
        let named = |mode, sources: &[&str]| Forwarded {
            mode,
            trust: trusting(sources),
            hops: 0,
        };
        let peer = Some([10, 0, 0, 1].into());
        assert_eq!(named(Mode::Append, &[]).mode_for(peer), Mode::Append);
        assert_eq!(
            named(Mode::Append, &["10.0.0.0/8"]).mode_for(peer),
            Mode::Append
        );
        assert_eq!(
            named(Mode::Append, &["11.0.0.0/8"]).mode_for(peer),
            Mode::Replace
        );
        assert_eq!(named(Mode::Append, &["unix"]).mode_for(None), Mode::Append);
        assert_eq!(named(Mode::Pass, &["unix"]).mode_for(peer), Mode::Pass);
    }

    #[test]
    fn the_client_is_so_many_from_the_right() {
        let map = map(&BROUGHT);
        let client = |hops, sources: &[&str], peer: &str| {
            let forwarded = Forwarded {
                mode: Mode::Append,
                trust: trusting(sources),
                hops,
            };
            let client = forwarded.client(Some(peer.parse().unwrap()), Fields::from(&map));
            client.unwrap().to_string()
        };
        let trust = ["10.0.0.0/8"];
        assert_eq!(client(0, &trust, "10.0.0.1"), "10.0.0.1");
        assert_eq!(client(1, &trust, "10.0.0.1"), "192.0.2.3");
        assert_eq!(client(3, &trust, "10.0.0.1"), "192.0.2.1");
        assert_eq!(client(4, &trust, "10.0.0.1"), "10.0.0.1");
        assert_eq!(client(1, &trust, "11.0.0.1"), "11.0.0.1");
    }

    #[test]
    fn elements_are_addresses_or_nobodys() {
        let ip = |text: &str| address(text).map(|it| it.to_string());
        for (text, found) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(ip(text).as_deref(), Some(found), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1 ",
            "192.0.2.256",
            "a.test",
            "192.0.2.1:x",
        ] {
            assert_eq!(ip(text), None, "{text}");
        }
    }
}
