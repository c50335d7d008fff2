//! Requests that wait for a node, when their shard has none that is well.
//!
//! A held request has sent nothing yet, or nothing that may not be sent again. It goes on as soon as
//! a node is back, or a reload brings one: it sees the newest state then, as if it came just now. Held requests are bounded in number, bytes
//! and time; when the time is over the cluster's last resort is tried, and then it fails.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::timeout_at;

use super::answer::Refusal;
use super::body::Source;
use super::forward::{Call, Choice, Forwarded, forward};
use super::view::View;
use crate::cluster::counters::Held;
use crate::cluster::desired::Hold;
use crate::cluster::{Cluster, Pick};
use crate::net::clock;

/// How often a held request looks by itself: at nodes whose time out is over nobody calls it.
const LOOK: Duration = Duration::from_millis(100);

/// What a request is placed by, kept where it may be held.
#[derive(Clone, Debug)]
pub(super) enum Placed<'a> {
    /// Its key.
    Key(Cow<'a, [u8]>),
    /// What was drawn for want of one.
    Anywhere([u8; 8]),
}

/// Forwards `call`, holding it if it has to be.
///
/// # Errors
/// What keyway answers itself.
pub(super) async fn hold(
    call: &Call<'_>,
    pick: Pick,
    placed: &Placed<'_>,
    params: Hold,
) -> Result<Forwarded, Refusal> {
    let begun = clock::now();
    let first = Call {
        choice: Choice::Well,
        ..call.clone()
    };
    let mut resent = false;
    let mut refusal = match forward(&first, pick.clone()).await {
        Err(refusal) if call.may_wait(&refusal, &pick, &mut resent) => refusal,
        forwarded => return forwarded,
    };
    let load = &call.cluster().load;
    let weight = call.received.weight() + call.source.as_ref().map_or(0, Source::held);
    let entered = load.hold.enter(params.requests);
    let Some((mut waiting, _bytes)) = entered.zip(load.held_bytes.take(weight, params.bytes))
    else {
        count(call, Held::Refused);
        return Err(refusal);
    };
    let until = (begun + params.max_wait).min(call.deadline);
    loop {
        let look = (clock::now() + LOOK).min(until);
        // Either says that it is worth a look.
        let _called = timeout_at(look, waiting.changed()).await.is_ok();
        let is_last = clock::now() >= until;
        if !call.has_time_for(Duration::ZERO) {
            count(call, Held::TimedOut);
            return Err(refusal);
        }
        let view = call.thread().view();
        let Some((cluster, pick)) = place(&view, call, placed) else {
            return Err(refusal);
        };
        if !is_last && !pick.has_well(&view.state.clusters[cluster], call.now()) {
            continue;
        }
        call.outcome.goes_on_by(&view, cluster);
        let again = Call {
            view: &view,
            cluster,
            choice: if is_last { Choice::Any } else { Choice::Well },
            ..call.clone()
        };
        match forward(&again, pick.clone()).await {
            Err(again) if !is_last && call.may_wait(&again, &pick, &mut resent) => {
                refusal = again;
            }
            forwarded => {
                count(
                    call,
                    if is_last {
                        Held::TimedOut
                    } else {
                        Held::Served
                    },
                );
                return forwarded;
            }
        }
    }
}

/// The cluster of `call` in the newest state, and the way through it.
fn place(view: &View, call: &Call<'_>, placed: &Placed<'_>) -> Option<(usize, Pick)> {
    let name = &call.cluster().name;
    let at = view.state.clusters.iter().position(|it| it.name == *name)?;
    let cluster = &view.state.clusters[at];
    Some((at, call.prepared(placed.pick(cluster))))
}

fn count(call: &Call<'_>, what: Held) {
    let counters = call.cluster().counters.of(call.thread().index);
    counters.held[what as usize].increment();
}

impl Placed<'_> {
    /// The way through `cluster`.
    pub(super) fn pick(&self, cluster: &Cluster) -> Pick {
        match self {
            Self::Key(key) => Pick::new(cluster, Some(key), cluster.placement.token(key)),
            Self::Anywhere(drawn) => Pick::new(cluster, None, cluster.placement.token(drawn)),
        }
    }

    pub(super) fn into_owned(self) -> Placed<'static> {
        match self {
            Self::Key(key) => Placed::Key(key.into_owned().into()),
            Self::Anywhere(drawn) => Placed::Anywhere(drawn),
        }
    }
}
