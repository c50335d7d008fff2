//! Making a connection to a node.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::endpoint::{Bound, Endpoint};
use super::race::race;
use crate::net::{Agreed, Stream, is_exhausted};
use crate::proxy_protocol::{Ends, Version, header};
use crate::tls::{ClientTls, Offer};
use crate::topology::Address;

/// Why there is no connection to a node. Its application saw nothing of the request.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The node's name did not resolve so far.
    #[error("{0} does not resolve")]
    Unresolved(Address),
    /// The node has as many connections as it may have.
    #[error("{address} has {max} connections, the most it may have")]
    Limit {
        /// The node's address.
        address: Address,
        /// The bound.
        max: u32,
    },
    /// The connection was not made in time.
    #[error("{address} did not accept a connection within {limit:?}")]
    TimedOut {
        /// The node's address.
        address: Address,
        /// The bound.
        limit: Duration,
    },
    /// The connection was refused or failed at once.
    #[error("{address} refused a connection")]
    Refused {
        /// The node's address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// This process has no file descriptor left, or its system nothing else that it takes.
    #[error("nothing is left to connect to {address} with")]
    Exhausted {
        /// The node's address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was made, and HTTP/2's opening failed.
    #[error("{address} did not open the protocol")]
    Handshake {
        /// The node's address.
        address: Address,
        /// What h2 said.
        source: h2::Error,
    },
    /// The connection was made, and the two did not agree on TLS.
    #[error("{address} did not agree on TLS")]
    Tls {
        /// The node's address.
        address: Address,
        /// What rustls or the system said.
        source: io::Error,
    },
    /// The node does not choose the protocol that it must speak.
    #[error("{address} does not speak HTTP/2 (ALPN)")]
    Alpn {
        /// The node's address.
        address: Address,
    },
    /// The node's address has no name that its certificate could be for.
    #[error("{address} has no name for its certificate: the cluster's tls.name is needed")]
    Unnamed {
        /// The node's address.
        address: Address,
    },
}

/// How a connection to a node begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening<'a> {
    /// The TLS to put it under, if any.
    pub(super) tls: Option<&'a ClientTls>,
    /// What the node may choose from under TLS.
    pub(super) offer: Offer,
    /// The header by which the connection is introduced, and whose it is.
    pub(super) introduces: Option<(Version, Option<Ends>)>,
}

/// How long an address that neither accepts nor refuses is alone before the next one is tried beside
/// it. RFC 8305 (section 5) recommends 250 ms and forbids less than 10 ms; a quarter of the limit
/// between them lets four silent addresses be tried within it.
fn stagger(limit: Duration) -> Duration {
    (limit / 4).clamp(Duration::from_millis(10), Duration::from_millis(250))
}

/// Connects to `endpoint` within `limit`, over all its addresses, and opens the connection; says
/// where it goes.
pub(super) async fn connect(
    endpoint: &Endpoint,
    opening: Opening<'_>,
    limit: Duration,
) -> Result<(Stream, Bound), ConnectError> {
    let bound = endpoint.bound();
    let connecting = async {
        let (stream, address) = begin(endpoint, opening, limit).await?;
        Ok((stream, bound.to(address)))
    };
    let timed_out = |_elapsed| ConnectError::TimedOut {
        address: endpoint.address().clone(),
        limit,
    };
    timeout(limit, connecting).await.map_err(timed_out)?
}

/// The same for who keeps to `limit` by a bound of its own; says which address accepted.
pub(super) async fn begin(
    endpoint: &Endpoint,
    opening: Opening<'_>,
    limit: Duration,
) -> Result<(Stream, Option<SocketAddr>), ConnectError> {
    let (stream, address) = connect_any(endpoint, limit).await?;
    let stream = open(endpoint, opening, stream).await?;
    Ok((stream, address))
}

/// Introduces the connection and puts it under TLS, where it should be.
async fn open(
    endpoint: &Endpoint,
    opening: Opening<'_>,
    mut stream: Stream,
) -> Result<Stream, ConnectError> {
    if let Some((version, ends)) = opening.introduces {
        let written = stream.write_all(&header(version, ends)).await;
        written.map_err(|source| ConnectError::Refused {
            address: endpoint.address().clone(),
            source,
        })?;
    }
    let Some(tls) = opening.tls else {
        return Ok(stream);
    };
    let address = || endpoint.address().clone();
    let name = tls.name().cloned().or_else(|| endpoint.server_name());
    let name = name.ok_or_else(|| ConnectError::Unnamed { address: address() })?;
    let secured = stream.connect_tls(tls.config(opening.offer), name).await;
    let stream = secured.map_err(|source| ConnectError::Tls {
        address: address(),
        source,
    })?;
    match (opening.offer, stream.agreed()) {
        (Offer::Http2, Some(Agreed { http2: false, .. })) => {
            Err(ConnectError::Alpn { address: address() })
        }
        _ => Ok(stream),
    }
}

/// A connection to the first of the addresses that accepts, with which that is; or the last one's
/// error.
async fn connect_any(
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<(Stream, Option<SocketAddr>), ConnectError> {
    let address = || endpoint.address().clone();
    let refused = |source| {
        let address = address();
        if is_exhausted(&source) {
            ConnectError::Exhausted { address, source }
        } else {
            ConnectError::Refused { address, source }
        }
    };
    if let Address::Unix(path) = endpoint.address() {
        let stream = Stream::connect_unix(path).await.map_err(refused)?;
        return Ok((stream, None));
    }
    let resolved = endpoint.resolved();
    if let [only] = resolved.addresses() {
        let stream = Stream::connect_tcp(*only).await.map_err(refused)?;
        return Ok((stream, Some(*only)));
    }
    let attempts = resolved.order().map(|at| {
        let address = resolved.addresses()[at];
        async move { Ok((at, Stream::connect_tcp(address).await?)) }
    });
    match race(attempts, stagger(limit)).await {
        Some(Ok((at, stream))) => {
            resolved.accepted(at);
            Ok((stream, Some(resolved.addresses()[at])))
        }
        Some(Err(source)) => Err(refused(source)),
        None => Err(ConnectError::Unresolved(address())),
    }
}
