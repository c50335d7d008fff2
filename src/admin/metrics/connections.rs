//! Connections, the TLS that they are under, and the limits that clients reached.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::level;
use crate::cluster::{Cluster, State};
use crate::limits::Limit;
use crate::proxy::Fleet;
use crate::telemetry::{Counter, Family, Striped};
use crate::tls::Expiry;
use crate::upstream::ConnectionCounters;

pub(super) fn connections(state: &State, fleet: &Fleet) -> [Family; 3] {
    let mut open = Family::gauge("connections", "Connections open.", &["side", "cluster"]);
    let mut total = Family::counter(
        "connections_total",
        "Connections made, and those that were not.",
        &["side", "cluster", "outcome"],
    );
    let mut handshakes = Family::counter(
        "tls_handshakes_total",
        "TLS handshakes that came to their end.",
        &["side", "cluster", "session"],
    );
    let upstream = |it: &Cluster| ("upstream", it.name.clone(), Arc::clone(&it.connections));
    let sides = state.clusters.iter().map(upstream);
    for (side, cluster, stripes) in sides {
        connections_of(&mut open, &mut total, [side, &cluster], &stripes);
        handshakes_of(&mut handshakes, [side, &cluster], &stripes);
    }
    let downstream = ["downstream", ""];
    connections_of(&mut open, &mut total, downstream, &fleet.connections);
    handshakes_of(&mut handshakes, downstream, &fleet.connections);
    [open, total, handshakes]
}

/// A value of the `outcome` label, and what counts it.
type Outcome = (&'static str, fn(&ConnectionCounters) -> &Counter);

fn connections_of(
    open: &mut Family,
    total: &mut Family,
    [side, cluster]: [&str; 2],
    stripes: &Striped<ConnectionCounters>,
) {
    open.sample(&[side, cluster], level(stripes, |it| &it.open));
    let outcomes: [Outcome; 7] = [
        ("ok", |it| &it.ok),
        ("refused", |it| &it.refused),
        ("timeout", |it| &it.timeout),
        ("limit", |it| &it.limit),
        ("handshake", |it| &it.handshake),
        ("failed", |it| &it.failed),
        ("cut", |it| &it.cut),
    ];
    for (outcome, counter) in outcomes {
        total.count(
            &[side, cluster, outcome],
            stripes.sum(|it| counter(it).value()),
        );
    }
}

fn handshakes_of(
    family: &mut Family,
    [side, cluster]: [&str; 2],
    stripes: &Striped<ConnectionCounters>,
) {
    let full = stripes.sum(|it| it.full.value());
    let resumed = stripes.sum(|it| it.resumed.value());
    // Where nothing is under TLS there is nothing to show.
    if full + resumed > 0 {
        family.count(&[side, cluster, "full"], full);
        family.count(&[side, cluster, "resumed"], resumed);
    }
}

/// Until when the certificates are valid that keyway shows.
pub(super) fn certificates(state: &State) -> Family {
    let mut family = Family::gauge(
        "tls_certificate_expiry_timestamp_seconds",
        "When a certificate that keyway shows ends, since the Unix epoch.",
        &["side", "listener", "cluster", "certificate"],
    );
    let mut show = |side, listener: &str, cluster: &str, it: &Expiry| {
        let seconds = it.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        family.sample(&[side, listener, cluster, &it.file], seconds.as_secs_f64());
    };
    for (listener, tls) in &state.desired.listener_tls {
        for expiry in tls.expiries() {
            show("downstream", listener, "", expiry);
        }
    }
    for cluster in &state.clusters {
        let tls = cluster.params.tls.as_ref();
        if let Some(expiry) = tls.and_then(|it| it.expiry()) {
            show("upstream", "", &cluster.name, expiry);
        }
    }
    family
}

pub(super) fn limits(fleet: &Fleet) -> Family {
    let mut family = Family::counter(
        "limits_reached_total",
        "Times that a client reached a limit, by the limit's key.",
        &["limit"],
    );
    for limit in Limit::ALL {
        family.count(
            &[limit.as_str()],
            fleet.limits.sum(|it| it.of(limit).value()),
        );
    }
    family
}

pub(super) fn buffered(fleet: &Fleet) -> Family {
    let mut family = Family::gauge(
        "buffered_bytes",
        "Bytes of bodies held for who does not take them, or to be sent again.",
        &[],
    );
    family.sample(&[], level(&fleet.buffered, |it| it));
    family
}
