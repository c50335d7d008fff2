//! What comes before HTTP on a client's connection: who passes it on may say whose it is, and then it
//! may be put under TLS.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tracing::debug;

use crate::drain::Phase;
use crate::limits::Limit;
use crate::net::Stream;
use crate::proxy::entrance::ListenerInfo;
use crate::proxy::thread::Context;
use crate::proxy_protocol::{HEADER_MAX, Malformed, Progress, parse};

/// Whether the client says something before it speaks HTTP.
pub(super) fn is_expected(listener: &ListenerInfo, stream: &Stream) -> bool {
    listener.tls.is_some() || listener.proxies.contains(stream.peer_ip())
}

/// The stream on which HTTP comes; `None` when it does not come to that within the time that a head
/// may take, or before the drain.
pub(super) async fn greet(
    thread: &Context,
    stream: Stream,
    listener: &ListenerInfo,
) -> Option<Stream> {
    // The certificates may have changed since the last request.
    thread.view();
    let peer = stream.peer_ip();
    let mut drain = thread.drain.clone();
    let greeted = tokio::select! {
        greeted = timeout(thread.limits().head_wait, begin(stream, listener)) => greeted,
        () = drain.reached(Phase::Draining) => return None,
    };
    let connections = thread.fleet.connections.of(thread.index);
    match greeted {
        Ok(Ok(stream)) => {
            connections.agreed(&stream);
            Some(stream)
        }
        Ok(Err(error)) => {
            connections.handshake.increment();
            debug!(%error, ?peer, listener = listener.name, "a client's connection did not begin");
            None
        }
        Err(_elapsed) => {
            connections.handshake.increment();
            thread.reached(Limit::HeadWait);
            None
        }
    }
}

async fn begin(mut stream: Stream, listener: &ListenerInfo) -> io::Result<Stream> {
    if listener.proxies.contains(stream.peer_ip()) {
        take_header(&mut stream).await?;
    }
    let Some(tls) = &listener.tls else {
        return Ok(stream);
    };
    let config = Arc::clone(&tls.borrow()).config();
    stream.accept_tls(config).await
}

/// Reads a PROXY protocol header, and no byte of what follows it.
async fn take_header(stream: &mut Stream) -> io::Result<()> {
    let mut header = [0; HEADER_MAX];
    let mut have = 0;
    loop {
        match parse(&header[..have]) {
            Ok(Progress::Whole(client)) => {
                if let Some(client) = client {
                    stream.set_client(client);
                }
                return Ok(());
            }
            Ok(Progress::Missing(more)) => {
                let room = header.get_mut(have..have + more).ok_or(Malformed::Length);
                stream.read_exact(room.map_err(io::Error::other)?).await?;
                have += more;
            }
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
        }
    }
}
