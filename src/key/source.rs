//! Pure: the single places that a key can come from.

use std::borrow::Cow;

use http::HeaderName;
use http::header::COOKIE;
use percent_encoding::percent_decode;

use super::json::{self, Found};
use super::{BODY_KEY_MAX, Body, Lookup};
use crate::head::{Captures, RequestHead};

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Source(Source),
}

/// One place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    /// Undecoded, the first occurrence, names compared without case: nginx's `$arg_NAME`
    /// (`ngx_http_arg`).
    RawQuery(String),
    /// The index of a capture of the route's path.
    Capture(usize),
    Path,
    Target,
    Host,
    ClientIp,
    /// The tokens of a JSON pointer.
    Body(Vec<String>),
}

/// A source that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one value of {0}, found several that differ")]
pub struct KeyError(pub String);

type Value<'a> = Option<Cow<'a, [u8]>>;

impl Part {
    pub(super) fn needs_body(&self) -> bool {
        matches!(self, Self::Source(Source::Body(_)))
    }

    pub(super) fn reads_header(&self, name: &str) -> bool {
        matches!(self, Self::Source(Source::Header(it)) if name.eq_ignore_ascii_case(it.as_str()))
    }

    pub(super) fn lookup<'a>(
        &self,
        head: &RequestHead<'a>,
        captures: &Captures<'a>,
        body: Body<'_>,
    ) -> Result<Lookup<'a>, KeyError> {
        let value = match self {
            Self::Literal(text) => Some(Cow::Owned(text.clone().into_bytes())),
            Self::Source(Source::Body(pointer)) => match body {
                Body::Unread => return Ok(Lookup::NeedsBody),
                Body::Read { bytes, complete } => in_body(pointer, bytes, complete)?,
            },
            Self::Source(source) => source.in_head(head, captures)?,
        };
        let value = value.filter(|it| !it.is_empty());
        Ok(value.map_or(Lookup::Missing, Lookup::Key))
    }
}

impl Source {
    fn in_head<'a>(
        &self,
        head: &RequestHead<'a>,
        captures: &Captures<'a>,
    ) -> Result<Value<'a>, KeyError> {
        match self {
            Self::Header(name) => {
                let values = head.fields.values(name).map(Cow::Borrowed);
                only(values, || format!("header {name}"))
            }
            Self::Cookie(name) => {
                let fields = head.fields.values(&COOKIE);
                let values = fields.flat_map(|field| cookies(field, name));
                only(values.map(decode), || format!("cookie {name}"))
            }
            Self::Query(name) => only(parameters(head.query, name), || format!("query {name}")),
            Self::RawQuery(name) => Ok(raw_parameter(head.query, name)),
            Self::Capture(index) => Ok(captures.get(*index).map(|it| decode(it.as_bytes()))),
            Self::Path => Ok(Some(Cow::Borrowed(head.path.as_bytes()))),
            Self::Target => Ok(Some(match head.query {
                None => Cow::Borrowed(head.path.as_bytes()),
                Some(query) => Cow::Owned(format!("{}?{query}", head.path).into_bytes()),
            })),
            Self::Host => Ok(Some(lower_case(head.host()))),
            Self::ClientIp => Ok(head
                .client
                .map(|it| Cow::Owned(it.to_string().into_bytes()))),
            // The caller has the body.
            Self::Body(_) => Ok(None),
        }
    }
}

/// The value that all `values` are.
fn only<'a>(
    mut values: impl Iterator<Item = Cow<'a, [u8]>>,
    what: impl FnOnce() -> String,
) -> Result<Value<'a>, KeyError> {
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|it| it != first) {
        return Err(KeyError(what()));
    }
    Ok(Some(first))
}

/// `%XX` decoded once; what is no escape stays as it is.
fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(bytes).into()
}

/// The values of the cookie `name` in one Cookie field (RFC 6265 5.4, 4.1.1), without the quotes
/// that some servers put around them.
fn cookies<'a>(field: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter_map(move |pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|it| it.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

/// The decoded values of the parameter `name`, whose own escapes are decoded too.
fn parameters<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = query.into_iter().flat_map(|it| it.split('&'));
    pairs.filter_map(move |pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decode(found.as_bytes()) == *name.as_bytes()).then(|| decode(value.as_bytes()))
    })
}

fn raw_parameter<'a>(query: Option<&'a str>, name: &str) -> Value<'a> {
    let mut pairs = query?.split('&').filter_map(|it| it.split_once('='));
    let (_, value) = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(Cow::Borrowed(value.as_bytes()))
}

fn lower_case(host: &str) -> Cow<'_, [u8]> {
    if host.bytes().any(|it| it.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase().into_bytes())
    } else {
        Cow::Borrowed(host.as_bytes())
    }
}

/// The value in a JSON body. A body that was cut at the bound is missing even where its beginning
/// holds a value: the rest could hold another one.
fn in_body(pointer: &[String], bytes: &[u8], complete: bool) -> Result<Value<'static>, KeyError> {
    if !complete || bytes.len() > BODY_KEY_MAX {
        return Ok(None);
    }
    match json::find(pointer, bytes) {
        Found::Nothing => Ok(None),
        Found::Text(text) => Ok(Some(Cow::Owned(text.into_bytes()))),
        Found::Several => Err(KeyError(format!("body member /{}", pointer.join("/")))),
    }
}
