//! The state as one data thread sees it, with the thread's own pools.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::State;
use crate::telemetry::ThreadIndex;
use crate::upstream::{Pool, Settings};

/// The state as this thread sees it, with this thread's pools.
#[derive(Debug)]
pub(super) struct View {
    pub(super) state: Arc<State>,
    /// By the nodes' slots.
    pub(super) pools: Vec<Pool>,
}

impl View {
    /// The view of `state`, with the pools of the nodes that `old` shares with it.
    pub(super) fn new(state: Arc<State>, old: Option<&Self>, thread: ThreadIndex) -> Self {
        let mut before: HashMap<_, _> = old
            .into_iter()
            .flat_map(|it| &it.pools)
            .map(|pool| (Arc::as_ptr(pool.endpoint()), pool))
            .collect();
        let pools = state
            .replicas()
            .map(|(cluster, _, replica)| {
                let settings = Settings {
                    params: cluster.params.pool,
                    connect_timeout: cluster.params.connect_timeout,
                    tls: cluster.params.tls.clone(),
                    proxy_protocol: cluster.params.proxy_protocol,
                };
                let endpoint = replica.node.endpoint();
                let same = |pool: &&Pool| pool.reconfigured(&settings);
                let at = Arc::as_ptr(endpoint);
                if let Some(pool) = before.get(&at).and_then(same) {
                    before.remove(&at);
                    return pool;
                }
                let counters = Arc::clone(&cluster.connections);
                Pool::new(Arc::clone(endpoint), counters, thread, settings)
            })
            .collect();
        for left in before.into_values() {
            left.retire();
        }
        Self { state, pools }
    }
}
