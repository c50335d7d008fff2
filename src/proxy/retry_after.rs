//! When a node wants to be asked again (RFC 9110 10.2.3).

use std::time::Duration;

use super::reply::NodeHead;

/// What Retry-After says, if the head has one: seconds, or a date.
#[expect(clippy::disallowed_methods, reason = "a date is wall-clock time")]
pub(super) fn retry_after(head: &NodeHead) -> Option<Duration> {
    let value = head.text("retry-after")?;
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let wait = date.duration_since(std::time::SystemTime::now());
    Some(wait.unwrap_or_default())
}
