//! A shard's data: what its nodes would keep on disk, in memory and behind a Unix socket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::task::spawn_local;

/// The most values, and the largest one in bytes: it is a demo.
const VALUES: usize = 10_000;
const VALUE: usize = 64 << 10;

type Values = Rc<RefCell<HashMap<String, Bytes>>>;

/// Serves a new store until the process ends.
pub(super) async fn serve(listener: UnixListener) {
    let values = Values::default();
    while let Ok((stream, _)) = listener.accept().await {
        let values = Rc::clone(&values);
        let service = service_fn(move |request| {
            let values = Rc::clone(&values);
            async move { Ok::<_, Infallible>(answer(&values, request).await) }
        });
        spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(values: &Values, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    match *request.method() {
        Method::GET | Method::HEAD => match values.borrow().get(&path) {
            Some(value) => respond(StatusCode::OK, value.clone()),
            None => respond(
                StatusCode::NOT_FOUND,
                Bytes::from_static(b"{\"found\":false}\n"),
            ),
        },
        Method::PUT | Method::POST => {
            let Ok(value) = Limited::new(request.into_body(), VALUE).collect().await else {
                return respond(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new());
            };
            let mut values = values.borrow_mut();
            if values.len() >= VALUES && !values.contains_key(&path) {
                return respond(StatusCode::INSUFFICIENT_STORAGE, Bytes::new());
            }
            values.insert(path, value.to_bytes());
            respond(
                StatusCode::CREATED,
                Bytes::from_static(b"{\"stored\":true}\n"),
            )
        }
        Method::DELETE => {
            values.borrow_mut().remove(&path);
            respond(StatusCode::NO_CONTENT, Bytes::new())
        }
        _ => respond(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    }
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
