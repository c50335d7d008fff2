//! The task of an HTTP/2 connection: it reads and writes for all streams, until the last has ended.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::Connection;

use super::pulse::pulse;
use super::slots::Slots;
use crate::net::{Cork, Corked};

/// Drives `connection` to its end, of which its streams are told.
pub(super) async fn drive(mut connection: Connection<Corked, Bytes>, cork: Cork, slots: Rc<Slots>) {
    let mut pings = connection.ping_pong().expect("pings must not be taken yet");
    {
        let mut connection = pin!(connection);
        let ping = async || drop(pings.ping(h2::Ping::opaque()).await);
        let mut silent = pin!(pulse(|| cork.last_read(), || !slots.is_empty(), ping));
        poll_fn(|cx| {
            let ended = cork.poll(cx, connection.as_mut()).is_ready();
            slots.driven(connection.max_concurrent_send_streams());
            if ended {
                return Poll::Ready(());
            }
            silent.as_mut().poll(cx)
        })
        .await;
    }
    // Who waits for a stream hears of the end, too.
    slots.wake_first();
}
