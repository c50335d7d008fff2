//! Whether the node of an HTTP/2 connection is still there.
//!
//! A half-open connection would else be found after the kernel's 15 minutes of retransmissions. Only
//! where something is waited for the node is asked, so that nobody's idle connection is kept awake.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::net::clock;

/// How long nothing may be read before the node is asked, and how long its answer may take.
const SILENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);

/// Ends when the node is not there any more: when nothing was read for too long while there are
/// streams, and it did not answer a ping. Whatever is read is an answer: a pong may come behind much.
pub(super) async fn pulse(
    last_read: impl Fn() -> Instant,
    has_streams: impl Fn() -> bool,
    mut ping: impl AsyncFnMut(),
) {
    let mut since = clock::recent();
    loop {
        sleep_until(since + SILENCE).await;
        let read = last_read();
        if read > since {
            since = read;
            continue;
        }
        since = clock::now();
        if has_streams() {
            let mut pong = pin!(ping());
            while timeout(ANSWER, pong.as_mut()).await.is_err() {
                if last_read() < since {
                    return;
                }
                since = clock::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_is_found_when_it_is_waited_for() {
        let start = clock::now();
        pulse(|| start, || true, async || pending().await).await;
        assert_eq!(start.elapsed(), SILENCE + ANSWER);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_moves_the_ping_away() {
        let start = clock::now();
        let read = || start + seconds(7);
        pulse(read, || true, async || pending().await).await;
        assert_eq!(start.elapsed(), seconds(7) + SILENCE + ANSWER);
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_and_who_is_idle_is_left_alone() {
        let start = clock::now();
        let pings = Cell::new(0);
        let has_streams = || start.elapsed() < seconds(55) || start.elapsed() > seconds(300);
        let ping = async || {
            pings.set(pings.get() + 1);
            if pings.get() > 5 {
                pending::<()>().await;
            }
        };
        pulse(|| start, has_streams, ping).await;
        assert_eq!(pings.get(), 6);
        assert_eq!(start.elapsed(), seconds(310) + ANSWER);
    }

    /// A pong may come behind a long body.
    #[tokio::test(start_paused = true)]
    async fn whatever_is_read_answers() {
        let start = clock::now();
        let until = start + seconds(59);
        // Something comes all the time, once the node was asked.
        let read = || match start.elapsed() {
            it if it <= SILENCE => start,
            _ => Instant::now().min(until),
        };
        pulse(read, || true, async || pending().await).await;
        assert_eq!(start.elapsed(), seconds(65));
    }
}
