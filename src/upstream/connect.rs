//! Making a connection to a node.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::endpoint::Endpoint;
use crate::net::Stream;
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
    /// The connection was made, and the protocol's opening failed.
    #[error("{address} did not open the protocol")]
    Handshake {
        /// The node's address.
        address: Address,
        /// What hyper said.
        source: hyper::Error,
    },
}

/// Connects to `endpoint` within `limit`, over all its addresses.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Stream, ConnectError> {
    let address = || endpoint.address().clone();
    match timeout(limit, connect_any(endpoint)).await {
        Ok(Ok(Some(stream))) => Ok(stream),
        Ok(Ok(None)) => Err(ConnectError::Unresolved(address())),
        Ok(Err(source)) => Err(ConnectError::Refused {
            address: address(),
            source,
        }),
        Err(_elapsed) => Err(ConnectError::TimedOut {
            address: address(),
            limit,
        }),
    }
}

/// The first address that accepts, the last one's error, or `None` when there is no address.
async fn connect_any(endpoint: &Endpoint) -> io::Result<Option<Stream>> {
    if let Address::Unix(path) = endpoint.address() {
        return Stream::connect_unix(path).await.map(Some);
    }
    let mut last = Ok(None);
    for address in endpoint.socket_addresses().iter() {
        last = Stream::connect_tcp(*address).await.map(Some);
        if last.is_ok() {
            break;
        }
    }
    last
}
