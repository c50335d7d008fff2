//! The task of an HTTP/2 connection: it reads and writes for all streams, until the last has ended.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;

use super::slots::Slots;
use crate::net::{Cork, Corked, Pulse};

/// How long a node may be silent while it is waited for, until it is asked, and how long its answer
/// may take.
const SILENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);

/// Drives `connection` to its end, of which its streams are told.
pub(super) async fn drive(mut connection: Connection<Corked, Bytes>, cork: Cork, slots: Rc<Slots>) {
    let pings = connection.ping_pong().expect("pings must not be taken yet");
    let mut pulse = Pulse::new(pings, SILENCE, ANSWER);
    {
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            let silent = pulse.poll(cx, cork.last_read(), !slots.is_empty());
            let ended = cork.poll(cx, connection.as_mut());
            slots.driven(connection.max_concurrent_send_streams());
            if ended.is_ready() {
                Poll::Ready(())
            } else {
                silent
            }
        })
        .await;
    }
    // Who waits for a stream hears of the end, too.
    slots.wake_first();
}
