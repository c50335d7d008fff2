//! Pure: a message's fields, borrowed from the bytes of HTTP/1.1 or from HTTP/2's map.

use std::{iter, slice};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::known::{Known, KnownSet};
use crate::spares::Spares;

/// Emptied tables that a thread keeps for later messages: as many as it has exchanges at once in a
/// sidecar; more are given back to the allocator.
const SPARES: usize = 256;

thread_local! {
    static SPARE: Spares<Vec<Line>> = const { Spares::new(SPARES) };
}

/// A range of a message's bytes. A head is far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub at: u32,
    /// How many bytes it has.
    pub len: u32,
}

/// Where the lines of one message's fields are in its bytes, in the order received.
///
/// The memory comes from, and goes back to, what this thread keeps for it: a warm connection's
/// head allocates nothing.
#[derive(Debug, Default)]
pub struct FieldTable {
    lines: Vec<Line>,
    known: KnownSet,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
    known: Known,
}

/// A message's fields.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// As HTTP/2 brought them, and which of them are known: to ask the map takes a hash each time.
    Map(&'a HeaderMap, KnownSet),
    /// As HTTP/1.1 brought them: the message's bytes, and where its lines are.
    Lines(&'a [u8], &'a FieldTable),
}

/// A walk over values of HTTP/2's map, if there are any, or over lines.
enum Walk<'a, M> {
    Map(Option<M>),
    Lines(&'a [u8], slice::Iter<'a, Line>),
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub enum FieldLine<'a> {
    /// Of HTTP/2: shared when it goes on by HTTP/2.
    Typed(&'a HeaderName, &'a HeaderValue),
    /// Of HTTP/1.1.
    Raw(Known, &'a [u8], &'a [u8]),
}

// === impl Span ===

impl Span {
    /// The bytes from `at` to `end`.
    pub fn new(at: usize, end: usize) -> Self {
        let narrow = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        Self {
            at: narrow(at),
            len: narrow(end.saturating_sub(at)),
        }
    }

    /// Where `part` lies in `whole`, of which it is a part.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let at = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Self::new(at, at + part.len())
    }

    /// These bytes of `whole`; nothing where it is another message's.
    pub fn of_bytes(self, whole: &[u8]) -> &[u8] {
        let at = self.at as usize;
        whole.get(at..at + self.len as usize).unwrap_or_default()
    }
}

// === impl FieldTable ===

impl FieldTable {
    /// An empty table.
    pub fn new() -> Self {
        let lines = Spares::take(&SPARE).unwrap_or_default();
        Self {
            lines,
            known: KnownSet::default(),
        }
    }

    /// Adds the line of `name` and `value`, both parts of `message`.
    pub fn push(&mut self, message: &[u8], name: &[u8], value: &[u8]) -> Known {
        let known = Known::of(name);
        self.known.insert(known);
        self.lines.push(Line {
            name: Span::of(name, message),
            value: Span::of(value, message),
            known,
        });
        known
    }
}

impl Drop for FieldTable {
    fn drop(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        if lines.capacity() == 0 {
            return;
        }
        lines.clear();
        Spares::keep(&SPARE, lines);
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Gives `take` every line, in the order received; HTTP/2's map keeps only the order of one
    /// name's lines. No iterator: whose lines they are is asked once, not at each.
    pub fn each(self, mut take: impl FnMut(FieldLine<'a>)) {
        match self {
            Self::Map(map, _) => {
                for (name, value) in map {
                    take(FieldLine::Typed(name, value));
                }
            }
            Self::Lines(message, table) => {
                for it in &table.lines {
                    let (name, value) = (it.name.of_bytes(message), it.value.of_bytes(message));
                    take(FieldLine::Raw(it.known, name, value));
                }
            }
        }
    }

    /// The values of every line named `name`, in the order received.
    pub fn values<'n>(self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let mut lines = match self {
            Self::Map(map, _) => Walk::Map(Some(map.get_all(name).iter())),
            Self::Lines(message, table) => Walk::Lines(message, table.lines.iter()),
        };
        iter::from_fn(move || match &mut lines {
            Walk::Map(values) => values.as_mut()?.next().map(HeaderValue::as_bytes),
            Walk::Lines(message, lines) => {
                let wanted = name.as_str().as_bytes();
                let is_named = |it: &&Line| {
                    it.name.len as usize == wanted.len()
                        && it.name.of_bytes(message).eq_ignore_ascii_case(wanted)
                };
                lines.find(is_named).map(|it| it.value.of_bytes(message))
            }
        })
    }

    /// The first value of `name`.
    pub fn first(self, name: &HeaderName) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Whether there is a line of `known`.
    #[inline]
    pub fn has(self, known: Known) -> bool {
        match self {
            Self::Map(_, set) => set.contains(known),
            Self::Lines(_, table) => table.known.contains(known),
        }
    }

    /// The values of every line of `known`.
    pub fn known(self, known: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut lines = match self {
            Self::Map(map, set) => {
                let has = set.contains(known);
                Walk::Map(has.then(|| map.get_all(known.name()).iter()))
            }
            Self::Lines(message, table) if table.known.contains(known) => {
                Walk::Lines(message, table.lines.iter())
            }
            Self::Lines(message, _) => Walk::Lines(message, [].iter()),
        };
        iter::from_fn(move || match &mut lines {
            Walk::Map(values) => values.as_mut()?.next().map(HeaderValue::as_bytes),
            Walk::Lines(message, lines) => {
                let found = lines.find(|it| it.known == known);
                found.map(|it| it.value.of_bytes(message))
            }
        })
    }

    /// The members of the list field `known`, over all its lines (RFC 9110 5.6.1).
    pub fn members(self, known: Known) -> impl Iterator<Item = &'a str> + use<'a> {
        // A member that is no text does not hide its neighbours.
        let members = self.known(known).flat_map(|it| it.split(|it| *it == b','));
        let members = members.filter_map(|it| str::from_utf8(it.trim_ascii()).ok());
        members.filter(|it| !it.is_empty())
    }

    /// Whether the list field `known` has the member `token`, whatever parameters follow it.
    pub fn lists(self, known: Known, token: &str) -> bool {
        self.has(known)
            && self.members(known).any(|it| {
                let bare = it.split(';').next().unwrap_or(it).trim_ascii_end();
                bare.eq_ignore_ascii_case(token)
            })
    }
}

impl<'a> From<&'a HeaderMap> for Fields<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        Self::Map(map, KnownSet::of(map))
    }
}

// === impl FieldLine ===

impl<'a> FieldLine<'a> {
    /// What field it is.
    pub fn known(&self) -> Known {
        match self {
            Self::Typed(name, _) => Known::of(name.as_str().as_bytes()),
            Self::Raw(known, ..) => *known,
        }
    }

    /// Its name, as received.
    pub fn name(&self) -> &'a [u8] {
        match *self {
            Self::Typed(name, _) => name.as_str().as_bytes(),
            Self::Raw(_, name, _) => name,
        }
    }

    /// Its value, without the white space around it.
    pub fn value(&self) -> &'a [u8] {
        match *self {
            Self::Typed(_, value) => value.as_bytes(),
            Self::Raw(_, _, value) => value,
        }
    }

    /// Adds it to `map`.
    ///
    /// # Errors
    /// When name or value is none, which what the codec read never is.
    pub fn append_to(&self, map: &mut HeaderMap) -> Result<(), http::Error> {
        let (name, value) = match *self {
            Self::Typed(name, value) => (name.clone(), value.clone()),
            Self::Raw(Known::Other, name, value) => (
                HeaderName::from_bytes(name)?,
                HeaderValue::from_bytes(value)?,
            ),
            Self::Raw(known, _, value) => (known.name().clone(), HeaderValue::from_bytes(value)?),
        };
        map.append(name, value);
        Ok(())
    }
}

/// The number in a Content-Length value: digits and nothing else (RFC 9110 8.6); `None` also for
/// what no peer can mean, above 2^63.
pub fn content_length(value: &[u8]) -> Option<u64> {
    let mut length = value.first().map(|_digit| 0_u64)?;
    for byte in value {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length = length.checked_mul(10)?.checked_add(digit)?;
    }
    i64::try_from(length).is_ok().then_some(length)
}

/// Those of `trailers` that may pass as such (RFC 9110 6.5.1).
pub fn allowed_trailers(mut trailers: HeaderMap) -> HeaderMap {
    let forbidden = trailers.keys().filter(|it| is_forbidden_trailer(it));
    let forbidden: Vec<_> = forbidden.cloned().collect();
    for name in &forbidden {
        trailers.remove(name);
    }
    trailers
}

/// The names of the fields that [`header::TRAILER`] announces are no concern of a proxy; these are
/// what a trailer must not be: what frames, routes or authenticates (RFC 9110 6.5.1).
fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let known = Known::of(name.as_str().as_bytes());
    !matches!(known, Known::Other | Known::Date)
        || [
            header::AUTHORIZATION,
            header::COOKIE,
            header::SET_COOKIE,
            header::TRAILER,
        ]
        .contains(name)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const MESSAGE: &[u8] =
        b"Connection: close, X-Hop\r\nx-a: 1\r\nX-A: 2\r\nTE: trailers;q=1,\xff, a\r\nte: ,b\r\n";

    fn table() -> FieldTable {
        let mut table = FieldTable::new();
        for line in MESSAGE.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
            let colon = line.iter().position(|it| *it == b':').unwrap();
            table.push(MESSAGE, &line[..colon], line[colon + 1..].trim_ascii());
        }
        table
    }

    #[test]
    fn lines_and_maps_are_read_alike() {
        let table = table();
        let lines = Fields::Lines(MESSAGE, &table);
        let mut map = HeaderMap::new();
        lines.each(|line| line.append_to(&mut map).unwrap());
        for fields in [lines, Fields::from(&map)] {
            let name = HeaderName::from_static("x-a");
            assert_eq!(fields.values(&name).collect::<Vec<_>>(), [b"1", b"2"]);
            assert_eq!(fields.first(&name), Some(&b"1"[..]));
            assert!(fields.has(Known::Connection) && !fields.has(Known::Host));
            assert!(fields.lists(Known::Connection, "x-hop"));
            assert!(!fields.lists(Known::Connection, "x-a"));
            assert_eq!(fields.members(Known::Connection).count(), 2);
            let te = fields.members(Known::Te).collect::<Vec<_>>();
            assert_eq!(te, ["trailers;q=1", "a", "b"]);
            assert!(fields.lists(Known::Te, "Trailers") && fields.lists(Known::Te, "b"));
            assert_eq!(fields.known(Known::Host).count(), 0);
            let mut count = 0;
            fields.each(|_| count += 1);
            assert_eq!(count, 5);
        }
    }

    #[test]
    fn a_table_may_outlive_its_threads_spares() {
        thread_local! {
            static LAST: RefCell<Option<FieldTable>> = const { RefCell::new(None) };
        }
        let ends = std::thread::spawn(|| {
            // What a thread uses first, it drops last.
            LAST.set(None);
            drop(table());
            LAST.set(Some(table()));
        });
        ends.join().unwrap();
    }

    #[test]
    fn a_length_is_digits() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"0042"), Some(42));
        let longest = i64::MAX.to_string();
        assert!(content_length(longest.as_bytes()).is_some());
        for value in ["", "+1", "-1", "1 ", "1, 1", "0x1", "9223372036854775808"] {
            assert_eq!(content_length(value.as_bytes()), None, "{value:?}");
        }
    }
}
