//! Whether the peer of an HTTP/2 connection is still there (RFC 9113 section 6.7).
//!
//! A half-open connection would else be found after the kernel's 15 minutes of retransmissions.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::clock;

/// Asks a silent peer whether it is there.
#[derive(Debug)]
pub struct Pulse {
    pongs: PingPong,
    /// How long nothing may be read before the peer is asked, and how long its answer may take.
    silence: Duration,
    answer: Duration,
    alarm: Alarm,
    /// As of when it is waited.
    since: Instant,
    is_asked: bool,
}

impl Pulse {
    /// One that asks by `pings` after so much silence.
    pub fn new(pings: PingPong, silence: Duration, answer: Duration) -> Self {
        Self {
            pongs: pings,
            silence,
            answer,
            alarm: Alarm::default(),
            since: clock::recent(),
            is_asked: false,
        }
    }

    /// Ready when the peer does not answer. Whatever is read, last at `last_read`, is an answer: a pong
    /// may come behind much. It is asked only while something is waited for of it, so that nobody's idle
    /// connection is kept awake. h2 is to be polled afterwards: it sends what is asked here.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        last_read: Instant,
        is_waited_for: bool,
    ) -> Poll<()> {
        if self.is_asked && self.pongs.poll_pong(cx).is_ready() {
            self.is_asked = false;
            self.since = clock::now();
        }
        loop {
            let wait = if self.is_asked {
                self.answer
            } else {
                self.silence
            };
            ready!(self.alarm.poll_until(cx, self.since + wait));
            if last_read > self.since {
                self.since = last_read;
                continue;
            }
            if self.is_asked {
                return Poll::Ready(());
            }
            self.since = clock::now();
            if is_waited_for {
                // An error is the connection's, which tells it itself.
                let _broken = self.pongs.send_ping(Ping::opaque()).is_err();
                self.is_asked = true;
                let _not_yet = self.pongs.poll_pong(cx).is_pending();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);
    const ANSWER: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_mins(3);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// After how long the client at the other end of `stream` is given up, if it is within three
    /// minutes. After `elapsed`, `last_read` says when something was read, as of the beginning, and
    /// `waits` whether it is waited for.
    async fn given_up_after(
        stream: DuplexStream,
        last_read: impl Fn(Duration) -> Duration,
        waits: impl Fn(Duration) -> bool,
    ) -> Option<Duration> {
        let handshake = h2::server::Builder::new().handshake::<_, Bytes>(stream);
        let mut connection = handshake.await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let began = clock::now();
        let mut pulse = Pulse::new(pings, SILENCE, ANSWER);
        let silent = poll_fn(|cx| {
            let elapsed = began.elapsed();
            let silent = pulse.poll(cx, began + last_read(elapsed), waits(elapsed));
            let _frames = connection.poll_closed(cx).is_pending();
            silent
        });
        let waited = tokio::time::timeout(LONG, silent).await;
        waited.ok().map(|()| began.elapsed())
    }

    /// A client that begins, and then reads and says nothing.
    async fn silent() -> (DuplexStream, DuplexStream) {
        let (near, mut far) = duplex(1 << 10);
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        far.write_all(begin).await.unwrap();
        (near, far)
    }

    fn never(_elapsed: Duration) -> Duration {
        Duration::ZERO
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_given_up() {
        let (near, mut far) = silent().await;
        let mut read = Vec::new();
        let given_up = given_up_after(near, never, |_| true);
        let (after, _) = tokio::join!(given_up, far.read_buf(&mut read));
        assert_eq!(after, Some(SILENCE + ANSWER));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_moves_the_ping_away() {
        let (near, _far) = silent().await;
        let after = given_up_after(near, |_| seconds(7), |_| true).await;
        assert_eq!(after, Some(seconds(7) + SILENCE + ANSWER));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_waited_for_is_left_alone() {
        let (near, _far) = silent().await;
        let after = given_up_after(near, never, |it| it >= seconds(65)).await;
        // It is looked at every ten seconds.
        assert_eq!(after, Some(seconds(70) + ANSWER));
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_stays() {
        let (near, far) = duplex(1 << 10);
        tokio::spawn(async move {
            let (sender, connection) = h2::client::handshake::<_>(far).await.unwrap();
            let _gone = connection.await.is_err();
            drop(sender);
        });
        assert_eq!(given_up_after(near, never, |_| true).await, None);
    }

    /// A pong may come behind a long body.
    #[tokio::test(start_paused = true)]
    async fn whatever_is_read_answers() {
        let (near, _far) = silent().await;
        // Something comes all the time once it was asked, up to a moment.
        let read = |elapsed: Duration| match elapsed {
            it if it <= SILENCE => Duration::ZERO,
            it => it.min(seconds(59)),
        };
        let after = given_up_after(near, read, |_| true).await;
        assert_eq!(after, Some(seconds(59) + ANSWER));
    }
}
