//! What trace a request belongs to, decided once as it comes.

use crate::cluster::desired::Traces;
use crate::head::{Fields, Known};
use crate::trace_context::{Flags, SpanId, TraceId, TraceParent};

/// A request's trace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trace {
    /// Nobody is told of traces: what the client says goes on as it came.
    Off,
    /// Whoever began it does not record it, so neither does keyway: what the client says goes on.
    Passed(TraceId),
    /// It begins here and is not recorded, of which nodes are told so that they do not begin one each.
    Unrecorded(TraceParent),
    /// It is recorded.
    Recorded(Recorded),
}

/// A request of a trace that is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    pub(super) trace: TraceId,
    /// The client's span, where it has one.
    pub(super) parent: Option<SpanId>,
    /// The request's own span.
    pub(super) span: SpanId,
    pub(super) flags: Flags,
}

impl Trace {
    /// The trace of a request with these fields, as `traces` would have it. A trace that began elsewhere
    /// is recorded where its beginning is, one that begins here if it falls into the sample.
    pub(super) fn of(traces: &Traces, fields: Fields<'_>, random: impl Fn() -> u64) -> Self {
        if traces.otlp.is_none() {
            return Self::Off;
        }
        if let Some(parent) = TraceParent::of(fields) {
            if !parent.flags.is_sampled() {
                return Self::Passed(parent.trace);
            }
            return Self::Recorded(Recorded {
                trace: parent.trace,
                parent: Some(parent.span),
                span: SpanId::random(random()),
                flags: parent.flags,
            });
        }
        let trace = TraceId::random(random(), random());
        let span = SpanId::random(random());
        if traces.sample.takes(trace.bits()) {
            return Self::Recorded(Recorded {
                trace,
                parent: None,
                span,
                flags: Flags::SAMPLED,
            });
        }
        Self::Unrecorded(TraceParent {
            trace,
            span,
            flags: Flags::default(),
        })
    }

    /// The trace's id, where one is known.
    pub(super) fn id(&self) -> Option<TraceId> {
        match self {
            Self::Off => None,
            Self::Passed(trace) => Some(*trace),
            Self::Unrecorded(parent) => Some(parent.trace),
            Self::Recorded(it) => Some(it.trace),
        }
    }

    pub(super) fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_))
    }

    /// The span of an attempt that begins, where it is recorded.
    pub(super) fn attempt(&self, random: impl FnOnce() -> u64) -> Option<SpanId> {
        self.is_recorded().then(|| SpanId::random(random()))
    }

    /// Whether what the client sent as this field goes on: `tracestate` belongs to a valid `traceparent`
    /// (W3C Trace Context 3.3).
    pub(super) fn passes(&self, field: Known) -> bool {
        match self {
            Self::Off | Self::Passed(_) => true,
            Self::Unrecorded(_) => false,
            Self::Recorded(it) => field == Known::Tracestate && it.parent.is_some(),
        }
    }

    /// What a node is told, whose attempt has the span that `attempt` says; `None`: what the client said.
    pub(super) fn parent(&self, attempt: impl FnOnce() -> Option<SpanId>) -> Option<TraceParent> {
        match self {
            Self::Off | Self::Passed(_) => None,
            Self::Unrecorded(parent) => Some(*parent),
            Self::Recorded(it) => Some(TraceParent {
                trace: it.trace,
                span: attempt().unwrap_or(it.span),
                flags: it.flags,
            }),
        }
    }
}
