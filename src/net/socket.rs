//! What a [`Stream`](super::Stream) is made of: a socket, in clear or under TLS.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::plain::{Plain, Seen};

/// A socket, and what is spoken on it.
#[derive(Debug)]
pub(super) enum Socket {
    Clear(Plain),
    /// Boxed: what an idle connection in clear takes is what it takes.
    Tls(Box<Tls>),
}

/// A socket under TLS.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TlsStream<Plain>,
    /// Whether the peer is told that the end is one (RFC 8446 6.1).
    ends_cleanly: bool,
}

// === impl Socket ===

impl Socket {
    /// The system's socket underneath.
    pub(super) fn plain(&self) -> &Plain {
        match self {
            Self::Clear(plain) => plain,
            Self::Tls(tls) => tls.plain(),
        }
    }

    fn plain_mut(&mut self) -> &mut Plain {
        match self {
            Self::Clear(plain) => plain,
            Self::Tls(tls) => tls.plain_mut(),
        }
    }

    /// Looks at what there is to read, of what this thread was told.
    pub(super) fn look(&mut self) -> Seen {
        match self {
            Self::Clear(plain) => plain.look(),
            Self::Tls(tls) => tls.look(),
        }
    }

    /// The same, asked of the system: one `recv` with `MSG_PEEK`.
    pub(super) fn look_closely(&mut self) -> Seen {
        match self {
            Self::Clear(plain) => plain.peek(),
            Self::Tls(tls) => match tls.look() {
                Seen::Nothing => tls.plain().peek(),
                seen => seen,
            },
        }
    }

    /// Ready when there may be something to read, the end included.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(tls) = self
            && tls.holds_data()
        {
            return Poll::Ready(Ok(()));
        }
        self.plain_mut().poll_readable(cx)
    }

    /// Ready when there is something to read, and what.
    pub(super) fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Seen> {
        if self.plain_mut().registered().is_err() {
            return Poll::Ready(Seen::End);
        }
        loop {
            if ready!(self.poll_readable(cx)).is_err() {
                return Poll::Ready(Seen::End);
            }
            match self.look() {
                Seen::Nothing => {}
                seen => return Poll::Ready(seen),
            }
        }
    }

    /// Makes the coming close a reset.
    pub(super) fn reset_on_close(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            tls.ends_cleanly = false;
        }
        self.plain().reset_on_close()
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            tls.close();
        }
        self.plain().shut_down()
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Clear(plain) => Pin::new(plain).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Clear(plain) => Pin::new(plain).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(cx, slices),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(plain) => Pin::new(plain).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_read(cx, buf),
        }
    }
}

// === impl Tls ===

impl Tls {
    pub(super) fn new(stream: TlsStream<Plain>) -> Self {
        Self {
            stream,
            ends_cleanly: true,
        }
    }

    /// What was agreed on when the connection began.
    pub(super) fn session(&self) -> &rustls::CommonState {
        self.stream.get_ref().1
    }

    /// Ready when the records that wait in memory are on their way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn plain(&self) -> &Plain {
        self.stream.get_ref().0
    }

    fn plain_mut(&mut self) -> &mut Plain {
        self.stream.get_mut().0
    }

    /// Whether there is data that was read of the socket and deciphered.
    fn holds_data(&mut self) -> bool {
        let state = match &mut self.stream {
            TlsStream::Client(it) => it.get_mut().1.process_new_packets(),
            TlsStream::Server(it) => it.get_mut().1.process_new_packets(),
        };
        state.is_ok_and(|it| it.plaintext_bytes_to_read() > 0)
    }

    fn look(&mut self) -> Seen {
        match &mut self.stream {
            TlsStream::Client(it) => {
                let (plain, session) = it.get_mut();
                look(plain, session)
            }
            TlsStream::Server(it) => {
                let (plain, session) = it.get_mut();
                look(plain, session)
            }
        }
    }

    /// Tells the peer that this is the end, as far as the socket takes it now.
    fn close(&mut self) {
        self.ends_cleanly = false;
        match &mut self.stream {
            TlsStream::Client(it) => {
                let (plain, session) = it.get_mut();
                close(plain, session);
            }
            TlsStream::Server(it) => {
                let (plain, session) = it.get_mut();
                close(plain, session);
            }
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if self.ends_cleanly {
            self.close();
        }
    }
}

/// Not every byte is data: a session ticket or a new key comes by itself, and is read here.
fn look<S: SideData>(plain: &Plain, session: &mut ConnectionCommon<S>) -> Seen {
    loop {
        let Ok(state) = session.process_new_packets() else {
            return Seen::End;
        };
        if state.plaintext_bytes_to_read() > 0 {
            return Seen::Data;
        }
        if state.peer_has_closed() {
            return Seen::End;
        }
        match session.read_tls(&mut Now(plain)) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Seen::Nothing,
            Ok(0) | Err(_) => return Seen::End,
        }
    }
}

fn close<S: SideData>(plain: &Plain, session: &mut ConnectionCommon<S>) {
    session.send_close_notify();
    // A peer that takes nothing now learns of the end by the socket's.
    while session.wants_write() && session.write_tls(&mut Now(plain)).is_ok_and(|it| it > 0) {}
}

/// Reads and writes what can be without waiting.
struct Now<'a>(&'a Plain);

impl Read for Now<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use bytes::Bytes;
    use rcgen::generate_simple_self_signed;
    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    use crate::net::{Outbox, Stream};
    use crate::tls::{
        ClientMaterial, ClientTls, MinVersion, Offer, Pair, Pem, ServerMaterial, ServerTls,
    };

    /// Two ends of a connection under TLS, of whose bytes the system takes few at a time.
    async fn ends() -> (Stream, Stream) {
        let made = generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let cert = Pem(made.cert.pem().into_bytes());
        let pair = Pair {
            file: String::new(),
            cert: cert.clone(),
            key: Pem(made.signing_key.serialize_pem().into_bytes()),
        };
        let server = ServerTls::new(ServerMaterial {
            pairs: vec![pair],
            clients: None,
            min_version: MinVersion::default(),
        });
        let client = ClientTls::new(ClientMaterial {
            ca: Some(cert),
            name: None,
            pair: None,
        });
        let (near, far) = UnixStream::pair().unwrap();
        SockRef::from(&near).set_send_buffer_size(4 << 10).unwrap();
        let (near, far) = (Stream::from_unix(near), Stream::from_unix(far));
        let config = client.unwrap().config(Offer::Either);
        let (near, far) = tokio::join!(
            near.accept_tls(server.unwrap().config()),
            far.connect_tls(config, "a.test".try_into().unwrap()),
        );
        (near.unwrap(), far.unwrap())
    }

    /// rustls takes more than the system does: what it holds back goes out before the writer rests.
    #[tokio::test]
    async fn what_waits_in_memory_is_sent() {
        let (near, mut far) = ends().await;
        assert!(far.agreed().unwrap().http2 && !far.agreed().unwrap().resumed);
        let mut outbox = Outbox::default();
        for size in [1, 5 << 10, 40 << 10, 60 << 10] {
            outbox.push(Bytes::from(vec![b'x'; size]), b"");
            let writing = poll_fn(|cx| outbox.poll_flush(cx, &near));
            let mut read = vec![0; size];
            let reading = far.read_exact(&mut read);
            let both = async { tokio::join!(writing, reading) };
            let (written, read) = timeout(Duration::from_secs(5), both).await.unwrap();
            written.unwrap();
            assert_eq!(read.unwrap(), size);
        }
    }

    /// A session ticket is no news for whoever looks whether the connection can be used again.
    #[tokio::test]
    async fn tickets_are_no_data() {
        let (near, far) = ends().await;
        // The tickets of TLS 1.3 come after the handshake: they wake whoever waits, and are no end.
        let ended = timeout(
            Duration::from_millis(100),
            poll_fn(|cx| far.poll_closed(cx)),
        );
        assert!(ended.await.is_err());
        assert!(far.is_surely_quiet() && far.is_quiet());
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"data");
        poll_fn(|cx| outbox.poll_flush(cx, &near)).await.unwrap();
        assert!(!poll_fn(|cx| far.poll_closed(cx)).await);
        assert!(!far.is_quiet() && !far.is_surely_quiet());
        drop(near);
        let (near, far) = ends().await;
        drop(near);
        assert!(poll_fn(|cx| far.poll_closed(cx)).await);
        assert!(!far.is_surely_quiet());
    }
}
