//! One of the demo's nodes: an HTTP server whose data is in its shard's store.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::rc::Rc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::spawn_local;

use crate::cli::output::{self, Failure};

type Body = Either<Incoming, Empty<bytes::Bytes>>;

/// Serves node `id` on a free port, which it prints, until standard input ends: with the parent.
pub(super) async fn serve(id: &str, store: &Path) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let printed = output::line(&listener.local_addr()?.to_string());
    printed.map_err(|failure| match failure {
        Failure::Error(message) => io::Error::other(message),
        Failure::No => io::Error::other("nothing was printed"),
    })?;
    let (id, store): (Rc<str>, Rc<Path>) = (id.into(), store.into());
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (id, store) = (Rc::clone(&id), Rc::clone(&store));
            let service = service_fn(move |request| {
                let (id, store) = (Rc::clone(&id), Rc::clone(&store));
                async move { Ok::<_, Infallible>(answer(&id, &store, request).await) }
            });
            spawn_local(server::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let mut input = Vec::new();
    tokio::io::stdin().read_to_end(&mut input).await?;
    Ok(())
}

/// The store's answer, marked by the node.
async fn answer(id: &str, store: &Path, request: Request<Incoming>) -> Response<Body> {
    let answered = ask(store, request).await;
    let mut response = if let Ok(response) = answered {
        response.map(Either::Left)
    } else {
        let mut response = Response::new(Either::Right(Empty::new()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    };
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-served-by", id);
    }
    response
}

async fn ask(
    store: &Path,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
    let stream = UnixStream::connect(store).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    let (parts, body) = request.into_parts();
    let mut request = Request::new(body.boxed());
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    request
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("store"));
    Ok(sender.send_request(request).await?)
}
