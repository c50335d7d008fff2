//! Clients that are silent are asked whether they are still there (RFC 9113 section 6.7).

use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use crate::net::{Alarm, clock};

/// How long a client may be silent until it is asked, and how long it may take to answer.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pings a silent client.
#[derive(Debug)]
pub(super) struct Pings {
    pongs: PingPong,
    alarm: Alarm,
    /// When it is asked, or was to have answered.
    until: Instant,
    is_asked: bool,
    /// Whether it was heard since it was last decided when to ask it.
    heard: bool,
}

impl Pings {
    pub(super) fn new(pings: PingPong) -> Self {
        Self {
            pongs: pings,
            alarm: Alarm::default(),
            until: clock::recent() + INTERVAL,
            is_asked: false,
            heard: false,
        }
    }

    /// Ready when the client does not answer; `heard` says whether anything came from it since the
    /// last call. h2 is to be polled afterwards: it sends what is asked here.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<()> {
        self.heard |= heard;
        if self.is_asked && self.pongs.poll_pong(cx).is_ready() {
            self.is_asked = false;
            self.heard = true;
        }
        loop {
            ready!(self.alarm.poll_until(cx, self.until));
            if self.is_asked {
                return Poll::Ready(());
            }
            if self.heard {
                self.heard = false;
                self.until = clock::now() + INTERVAL;
            } else {
                // An error is the connection's, which tells it itself.
                let _broken = self.pongs.send_ping(Ping::opaque()).is_err();
                self.is_asked = true;
                self.until = clock::now() + TIMEOUT;
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

    /// A server's connection that is polled with its pings until the client does not answer, or for
    /// three minutes; after how long.
    async fn given_up_after(stream: DuplexStream) -> Option<Duration> {
        let handshake = h2::server::Builder::new().handshake::<_, Bytes>(stream);
        let mut connection = handshake.await.unwrap();
        let mut pings = Pings::new(connection.ping_pong().unwrap());
        let began = clock::now();
        let silent = poll_fn(|cx| {
            let silent = pings.poll(cx, false);
            let _frames = connection.poll_closed(cx).is_pending();
            silent
        });
        let waited = tokio::time::timeout(Duration::from_mins(3), silent).await;
        waited.ok().map(|()| clock::now() - began)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_given_up() {
        let (near, mut far) = duplex(1 << 10);
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        far.write_all(begin).await.unwrap();
        let mut read = Vec::new();
        let (after, _) = tokio::join!(given_up_after(near), far.read_buf(&mut read));
        assert_eq!(after, Some(INTERVAL + TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_stays() {
        let (near, far) = duplex(1 << 10);
        tokio::spawn(async move {
            let (sender, connection) = h2::client::handshake::<_>(far).await.unwrap();
            let _gone = connection.await.is_err();
            drop(sender);
        });
        assert_eq!(given_up_after(near).await, None);
    }
}
