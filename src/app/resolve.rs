//! Resolves nodes' names, in the background and again and again: no request waits for DNS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::cluster::{Node, SharedState};

/// How often a name that does not resolve is tried, and one that does is looked at again. The
/// system's resolver tells no time to live; 30 s is the common one of cluster DNS.
const UNRESOLVED: Duration = Duration::from_secs(1);
const RESOLVED: Duration = Duration::from_secs(30);

/// How long one answer may take; the next name waits for it.
const ANSWER: Duration = Duration::from_secs(5);

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_millis(100);

/// Resolves what the current state's nodes are called, for ever.
pub(super) async fn run(shared: Arc<SharedState>) {
    // By endpoint, so that a node's new address is resolved at once.
    let mut due: HashMap<usize, Instant> = HashMap::new();
    loop {
        let state = shared.load();
        let now = Instant::now();
        let key = |node: &Node| Arc::as_ptr(node.endpoint()) as usize;
        let named = || {
            let nodes = state.replicas().map(|(_, _, replica)| &replica.node);
            nodes.filter(|it| it.endpoint().name_to_resolve().is_some())
        };
        due.retain(|old, _| named().any(|it| key(it) == *old));
        for node in named() {
            if due.get(&key(node)).is_none_or(|at| *at <= now) {
                resolve(node).await;
                let pause = if node.endpoint().is_resolved() {
                    RESOLVED
                } else {
                    UNRESOLVED
                };
                due.insert(key(node), Instant::now() + pause);
            }
        }
        drop(state);
        sleep(LOOK).await;
    }
}

async fn resolve(node: &Node) {
    let Some((host, port)) = node.endpoint().name_to_resolve() else {
        return;
    };
    let known = node.endpoint().is_resolved();
    let answer = timeout(ANSWER, lookup_host((host, port))).await;
    match answer {
        Ok(Ok(addresses)) => {
            // Sorted: the answer's order is not a choice of ours, and must not look like a change.
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort_unstable();
            node.endpoint().resolve(addresses);
            if !known && node.endpoint().is_resolved() {
                info!(node = node.id(), host, "the node's name resolves");
            }
        }
        Ok(Err(error)) if !known => {
            warn!(node = node.id(), host, %error, "the node's name does not resolve");
        }
        Err(_elapsed) if !known => warn!(
            node = node.id(),
            host, "the node's name does not resolve in time"
        ),
        Ok(Err(_)) | Err(_) => {}
    }
}
