//! A proxy made of Pingora, for the same work as the other peers: one thread, a consistent hash of the
//! path, another node tried when one refuses a connection or breaks it before its response, not for a
//! POST once sent. Clients may speak HTTP/1.1 or HTTP/2 without TLS, nodes speak HTTP/1.1.
//!
//!     pingora-peer LISTEN NODE...

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::lb::selection::consistent::KetamaHashing;
use pingora::lb::{Backend, LoadBalancer};
use pingora::prelude::*;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

const ATTEMPTS_MAX: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

struct Peer {
    nodes: Arc<LoadBalancer<KetamaHashing>>,
}

/// The nodes that a request was sent to; the last one is tried now.
#[derive(Default)]
struct Attempts {
    nodes: Vec<Backend>,
}

impl Attempts {
    fn are_left(&self) -> bool {
        self.nodes.len() < ATTEMPTS_MAX
    }
}

#[async_trait]
impl ProxyHttp for Peer {
    type CTX = Attempts;

    fn new_ctx(&self) -> Attempts {
        Attempts::default()
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        attempts: &mut Attempts,
    ) -> Result<Box<HttpPeer>> {
        let key = session.req_header().uri.path().as_bytes();
        let tried: HashSet<_> = attempts.nodes.iter().collect();
        let node = self
            .nodes
            .select_with(key, 256, |node, _| !tried.contains(node))
            .ok_or_else(|| Error::new(ErrorType::HTTPStatus(503)))?;
        let mut peer = HttpPeer::new(node.addr.clone(), false, String::new());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        attempts.nodes.push(node);
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        attempts: &mut Attempts,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(attempts.are_left());
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        attempts: &mut Attempts,
        _client_reused: bool,
    ) -> Box<Error> {
        let repeatable = session.req_header().method.is_idempotent()
            && session.response_written().is_none()
            && !session.as_ref().retry_buffer_truncated();
        error.set_retry(repeatable && attempts.are_left());
        error
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments
        .next()
        .expect("usage: pingora-peer LISTEN NODE...");
    let nodes: Vec<String> = arguments.collect();
    let configuration = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        max_retries: ATTEMPTS_MAX,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let nodes = LoadBalancer::try_from_iter(&nodes).expect("nodes must be HOST:PORT");
    let peer = Peer {
        nodes: Arc::new(nodes),
    };
    let mut service = http_proxy_service(&server.configuration, peer);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    service
        .app_logic_mut()
        .expect("a new service must have its logic")
        .server_options = Some(options);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
