//! An attempt while it is under way: counted at its node, and by how it ended.

use std::cell::Cell;
use std::rc::Rc;

use super::super::thread::Context;
use super::super::view::View;
use super::Try;
use crate::cluster::counters::{Class, HEAD_SENT};
use crate::cluster::{Node, Target};

/// Counts an attempt while it is under way, and how it ended.
#[derive(Debug)]
pub(in crate::proxy) struct AttemptGuard {
    thread: Rc<Context>,
    view: Rc<View>,
    cluster: usize,
    target: Target,
    /// Whether it is counted over the whole cluster too.
    counted: bool,
    head: Cell<Option<Class>>,
    ended: Cell<Option<Class>>,
}

impl AttemptGuard {
    /// Takes a place at the node and in its cluster; `None` when somebody else took the last one.
    pub(super) fn begin(it: &Try<'_>) -> Option<Self> {
        let (cluster, node) = (it.cluster(), it.node());
        match cluster.cap_of(node) {
            Some(cap) if !node.try_begin(cap) => return None,
            Some(_) => {}
            None => node.begin(),
        }
        let counted = cluster.counts_load();
        if counted && !cluster.load.try_begin(cluster.params.caps.cluster) {
            node.end();
            return None;
        }
        Some(Self {
            thread: Rc::clone(it.call.thread()),
            view: Rc::clone(it.call.view),
            cluster: it.call.cluster,
            target: it.target,
            counted,
            head: Cell::new(None),
            ended: Cell::new(None),
        })
    }

    /// The attempt ended as `class`.
    pub(in crate::proxy) fn ended(&self, class: Class) {
        self.ended.set(Some(class));
    }

    /// The response broke off after its head, when nothing can be tried again.
    pub(in crate::proxy) fn broke(&self) {
        self.ended(Class::Error);
        let cluster = &self.view.state.clusters[self.cluster];
        cluster.counters.of(self.thread.index).retries_denied[HEAD_SENT].increment();
    }

    /// A head of this class arrived.
    pub(super) fn responded(&self, class: Class) {
        self.head.set(Some(class));
    }

    /// The whole response was read.
    pub(in crate::proxy) fn complete(&self) {
        self.ended.set(self.head.get());
    }

    fn node(&self) -> &Node {
        &self
            .target
            .replica(&self.view.state.clusters[self.cluster])
            .node
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let class = self.ended.get().unwrap_or(Class::Aborted);
        let node = self.node();
        node.end();
        let cluster = &self.view.state.clusters[self.cluster];
        if self.counted {
            cluster.load.end();
        }
        if cluster.params.caps.caps_anything() {
            cluster.queue(self.target.shard).wake_one();
        }
        node.counters.of(self.thread.index).attempts[class as usize].increment();
    }
}
