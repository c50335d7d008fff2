//! Pure: the deadline that a client gives its request, and how nodes are told what is left of it.

use std::io::Write as _;
use std::time::Duration;

use http::HeaderName;

use crate::head::Fields;

/// gRPC's field (gRPC over HTTP/2, "Timeout").
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// gRPC allows 8 digits.
const GRPC_MAX: u128 = 99_999_999;

/// How long a client waits, and by which field it said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) field: HeaderName,
    pub(super) wait: Duration,
    /// Whether it wrote milliseconds without their unit.
    is_bare: bool,
}

/// A field that tells no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found:?}")]
pub(super) struct NoTime {
    field: HeaderName,
    expected: &'static str,
    found: String,
}

impl Patience {
    /// What the client said: by `grpc-timeout` if the request is gRPC, else by `field`, if there is
    /// such; `None` when it did not.
    ///
    /// # Errors
    /// When it said what is no time: the node might read it otherwise.
    pub(super) fn of(
        fields: Fields<'_>,
        grpc: bool,
        field: Option<&HeaderName>,
    ) -> Result<Option<Self>, NoTime> {
        let said = |name: &HeaderName| fields.first(name);
        if let Some(value) = grpc.then(|| said(&GRPC_TIMEOUT)).flatten() {
            let expected = "1 to 8 digits and one of H, M, S, m, u, n";
            return Self::read(GRPC_TIMEOUT, value, expected, grpc_timeout).map(Some);
        }
        let Some((field, value)) = field.and_then(|it| Some((it, said(it)?))) else {
            return Ok(None);
        };
        let expected = "milliseconds, or a duration such as 250ms or 5s";
        Self::read(field.clone(), value, expected, duration).map(Some)
    }

    /// What nodes are told when `left` is left of it.
    pub(super) fn left(&self, left: Duration) -> Vec<u8> {
        let mut value = Vec::new();
        // Writing to a Vec cannot fail.
        let _infallible = if self.field == GRPC_TIMEOUT {
            match (left.as_micros(), left.as_millis()) {
                (micros @ ..=GRPC_MAX, _) => write!(value, "{micros}u"),
                (_, millis @ ..=GRPC_MAX) => write!(value, "{millis}m"),
                _ => write!(value, "{}S", u128::from(left.as_secs()).min(GRPC_MAX)),
            }
        } else {
            let unit = if self.is_bare { "" } else { "ms" };
            write!(value, "{}{unit}", left.as_millis())
        };
        value
    }

    fn read(
        field: HeaderName,
        value: &[u8],
        expected: &'static str,
        parse: fn(&str) -> Option<Duration>,
    ) -> Result<Self, NoTime> {
        let text = str::from_utf8(value).ok();
        match text.and_then(parse) {
            Some(wait) => Ok(Self {
                field,
                wait,
                is_bare: value.last().is_some_and(u8::is_ascii_digit),
            }),
            None => Err(NoTime {
                field,
                expected,
                found: String::from_utf8_lossy(value).into_owned(),
            }),
        }
    }
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number(digits).filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number = number(digits).filter(|_| digits.len() <= 12)?;
    Some(match &text[digits.len()..] {
        "" | "ms" => Duration::from_millis(number),
        "us" => Duration::from_micros(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        _ => return None,
    })
}

fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|it| it.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const FIELD: HeaderName = HeaderName::from_static("x-deadline");

    fn said(grpc: bool, name: &HeaderName, value: &str) -> Result<Option<Patience>, NoTime> {
        let fields = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
        Patience::of(Fields::from(&fields), grpc, Some(&FIELD))
    }

    fn millis(grpc: bool, value: &str) -> Option<u128> {
        let field = if grpc { GRPC_TIMEOUT } else { FIELD };
        let patience = said(grpc, &field, value).ok()?;
        patience.map(|it| it.wait.as_millis())
    }

    #[test]
    fn times_are_read() {
        let grpc = ["1H", "2M", "3S", "400m", "5000u", "99999999n"];
        let expected = [3_600_000, 120_000, 3000, 400, 5, 99];
        assert_eq!(grpc.map(|it| millis(true, it)), expected.map(Some));
        let plain = ["1500", "250ms", "2s", "1m", "1h", "0"];
        let expected = [1500, 250, 2000, 60_000, 3_600_000, 0];
        assert_eq!(plain.map(|it| millis(false, it)), expected.map(Some));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in ["", "S", "1", "123456789S", "-1S", "+1S", "1 S", "1s", "1x"] {
            assert!(said(true, &GRPC_TIMEOUT, value).is_err(), "{value}");
        }
        for value in ["", "s", "1.5s", "-1", "1d", "9999999999999", "\u{664}s"] {
            assert!(said(false, &FIELD, value).is_err(), "{value}");
        }
    }

    #[test]
    fn who_says_nothing_gives_no_deadline() {
        assert_eq!(said(false, &GRPC_TIMEOUT, "1S"), Ok(None));
        assert_eq!(said(true, &HeaderName::from_static("x"), "1S"), Ok(None));
    }

    #[test]
    fn what_is_left_is_said_as_it_was() {
        let left = |grpc, value, left| {
            let field = if grpc { GRPC_TIMEOUT } else { FIELD };
            let patience = said(grpc, &field, value).unwrap().unwrap();
            String::from_utf8(patience.left(left)).unwrap()
        };
        assert_eq!(
            left(true, "5S", Duration::from_micros(1_234_567)),
            "1234567u"
        );
        assert_eq!(left(true, "1H", Duration::from_mins(50)), "3000000m");
        assert_eq!(
            left(true, "99999999H", Duration::from_hours(100_000)),
            "99999999S"
        );
        assert_eq!(
            left(false, "5s", Duration::from_micros(1_234_567)),
            "1234ms"
        );
        assert_eq!(left(false, "5000", Duration::from_secs(1)), "1000");
    }
}
