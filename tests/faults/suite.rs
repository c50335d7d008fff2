//! What holds for a whole run, and what a row asks for.

use std::collections::HashSet;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::peers::Peer;

/// What holds for all rows of a run.
pub struct Suite {
    pub runtime: Runtime,
    /// Whether everything is run, or what tells something soon.
    pub full: bool,
    pub peers: Vec<Peer>,
    /// Whether packets may be dropped.
    pub isolated: bool,
    /// The keys of a cluster that keyway knows.
    pub known: HashSet<String>,
}

/// What a row wants.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Settings of keyway's cluster.
    pub cluster: &'static str,
    /// Another keyway beside the first one, without `cluster`.
    pub plain: bool,
    /// Whether no peer is beside it: the nodes could not do the work of all.
    pub alone: bool,
    pub reach: Reach,
    pub keys: usize,
    /// Whether clients speak HTTP/2; that nodes do is the cluster's setting.
    pub http2: bool,
}

/// How proxies reach nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At their addresses.
    Direct,
    /// Through chaos in front of each.
    Chaos,
    /// By names; each listens on a port of its own at all addresses.
    Names,
    /// All but this one at their addresses, and this one by a cable.
    Cable(&'static str),
}

impl Suite {
    /// `full` of a whole run, `soon` of what runs with the tests.
    pub fn seconds(&self, full: u64, soon: u64) -> Duration {
        Duration::from_secs(if self.full { full } else { soon })
    }

    /// How long all is well before something goes wrong.
    pub fn calm(&self) -> Duration {
        self.seconds(2, 1)
    }

    pub fn knows(&self, keys: &[&str]) -> bool {
        keys.iter().all(|it| self.known.contains(*it))
    }

    /// The cluster's settings, with what every row asks for where keyway knows it.
    pub fn cluster(&self, of_row: &str) -> String {
        let mut settings = vec!["attempt_timeout: 2s", of_row];
        if self.knows(&["probe"]) && !of_row.contains("probe:") {
            settings.push("probe: { http: { path: /healthz }, interval: 500ms }");
        }
        settings.retain(|it| !it.is_empty());
        settings.join(", ")
    }
}

impl Setting {
    /// keyway as it comes, over nodes that are reached directly.
    pub const BARE: Self = Self {
        cluster: "",
        plain: false,
        alone: false,
        reach: Reach::Direct,
        keys: 100,
        http2: false,
    };

    /// HTTP/2 on both sides, of which the peers would have to be told.
    pub const HTTP2: Self = Self {
        cluster: "protocol: h2",
        alone: true,
        http2: true,
        ..Self::BARE
    };
}
