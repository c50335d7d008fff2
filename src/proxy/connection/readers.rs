//! HTTP/2 clients that take nothing of a response. hyper then asks for no more of its body, and would
//! wait for ever: the socket takes what other streams send, so that no write ever fails.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::net::{Alarm, clock};

/// Who reads the response of one stream, as its body knows it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Pieces that it was given.
    pieces: Cell<u32>,
    /// How long it may take nothing of the last one; `None` once it took it.
    patience: Cell<Option<Duration>>,
}

/// Runs the streams of a connection, each as long as it has a reader.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers {
    /// The one of the stream that is about to be run.
    next: Rc<RefCell<Option<Rc<Reader>>>>,
}

impl Readers {
    /// The reader of the stream that hyper has run next.
    pub(super) fn next(&self) -> Rc<Reader> {
        let reader = Rc::<Reader>::default();
        self.next.replace(Some(Rc::clone(&reader)));
        reader
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Readers {
    fn execute(&self, stream: F) {
        // A task is moved several times until it runs, and once more at its end.
        let stream = Box::pin(stream);
        match self.next.take() {
            Some(reader) => spawn_local(run(stream, reader)),
            None => spawn_local(stream),
        };
    }
}

impl Reader {
    /// It was given a piece, of which it may take nothing for `patience`.
    pub(super) fn owes(&self, patience: Duration) {
        self.pieces.set(self.pieces.get().wrapping_add(1));
        self.patience.set(Some(patience));
    }

    /// It took what it was given.
    pub(super) fn took(&self) {
        self.patience.set(None);
    }

    /// Ready when it has taken nothing for too long; `waited` is since when, and for which piece.
    fn poll_lost(
        &self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        waited: &mut Option<(u32, Instant)>,
    ) -> Poll<()> {
        let Some(patience) = self.patience.get() else {
            *waited = None;
            return Poll::Pending;
        };
        let piece = self.pieces.get();
        let since = match *waited {
            Some((of, since)) if of == piece => since,
            _ => clock::now(),
        };
        *waited = Some((piece, since));
        ready!(alarm.poll_until(cx, since + patience));
        Poll::Ready(())
    }
}

/// Runs `stream` to its end, or drops it, which resets it.
async fn run(mut stream: Pin<Box<impl Future<Output = ()>>>, reader: Rc<Reader>) {
    let (mut alarm, mut waited) = (Alarm::default(), None);
    poll_fn(|cx| match stream.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => reader.poll_lost(cx, &mut alarm, &mut waited),
    })
    .await;
}
