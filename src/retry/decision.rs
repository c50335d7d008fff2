//! Pure: whether a failed attempt is followed by another, and where.
//!
//! Only facts come in and only a [`Decision`] goes out, so that every rule of what is safe to
//! repeat is one table that tests walk.

use http::Method;

use super::{GrpcCode, Policy, RepeatableMethods};

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made: the node's application saw nothing.
    Connect,
    /// The node refused the request unprocessed (`REFUSED_STREAM`, above GOAWAY's last id; RFC 9113
    /// 8.7), or the connection was closed before a byte of it was written.
    Unsent,
    /// The connection broke after bytes were written and before the response's head.
    Reset {
        /// Whether the connection had served before: the node may just have closed it as idle.
        pooled: bool,
    },
    /// No response head came in time.
    Timeout,
    /// The node left rotation while its response was waited for: nothing may come in time.
    Left,
    /// The node answered with this status code.
    Status(u16),
    /// The node answered with this gRPC status.
    Grpc(GrpcCode),
    /// The node answered with bytes that are no response.
    Protocol,
}

/// What is known of the request when an attempt failed.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each named"
)]
pub struct Situation {
    /// Whether the method, or an honoured idempotency key, allows a repeat after bytes were sent.
    pub repeatable: RepeatableMethods,
    /// Whether the body can be sent again from its first byte.
    pub body_replayable: bool,
    /// Attempts made so far, the failed one included.
    pub attempts: u32,
    /// Whether the deadline leaves time for another.
    pub time_left: bool,
    /// Whether another node may be tried.
    pub next_node: bool,
    /// Whether this node was the shard's only usable one when it was picked.
    pub only_node: bool,
    /// Whether the node said when it may be asked again, and the deadline leaves time for that.
    pub asked_back: bool,
    /// Whether the request is another keyway's retry already.
    pub nested: bool,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The next node of the plan is tried at once.
    NextNode,
    /// The same node is tried once more after a wait: it is the only one left.
    SameNode,
    /// The failure is the answer.
    Stop(Denied),
}

/// Why a failure is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The policy does not list this failure.
    Policy,
    /// The cluster's retry budget is spent.
    Budget,
    /// The method may not be repeated after this failure.
    Method,
    /// The body cannot be sent again.
    Body,
    /// No time is left.
    Deadline,
    /// No other node may be tried.
    NoCandidate,
    /// Whoever sent it tries again itself: else attempts would multiply from hop to hop.
    Nested,
    /// All attempts are made.
    Attempts,
}

impl RepeatableMethods {
    /// The narrowest class that `method` belongs to; `None` when it must not be repeated.
    pub fn class_of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => Self::Safe,
            Method::PUT | Method::DELETE => Self::Idempotent,
            _ => Self::None,
        }
    }

    /// Whether these methods include the class `of` a request.
    fn cover(self, of: Self) -> bool {
        match (self, of) {
            (_, Self::None) | (Self::None, _) => false,
            (Self::Idempotent, _) => true,
            (Self::Safe, of) => of == Self::Safe,
        }
    }
}

impl Policy {
    /// What follows `failure` in `situation`; the budget is the caller's to ask.
    pub fn decide(&self, failure: Failure, situation: &Situation) -> Decision {
        let denied = |why| Decision::Stop(why);
        if !self.lists(failure) {
            return denied(Denied::Policy);
        }
        if situation.attempts >= self.attempts {
            return denied(Denied::Attempts);
        }
        // What reached no application adds to nobody's load, on whichever hop.
        if situation.nested && !matches!(failure, Failure::Connect | Failure::Unsent) {
            return denied(Denied::Nested);
        }
        if !self.method_allows(failure, situation.repeatable) {
            return denied(Denied::Method);
        }
        if !situation.body_replayable {
            return denied(Denied::Body);
        }
        if !situation.time_left {
            return denied(Denied::Deadline);
        }
        // The only usable node closed an idle connection: it is well, whatever the others are.
        let stale = matches!(failure, Failure::Unsent | Failure::Reset { pooled: true });
        match situation {
            _ if stale && situation.only_node => Decision::SameNode,
            _ if situation.next_node => Decision::NextNode,
            _ if failure == Failure::Connect && situation.only_node => Decision::SameNode,
            _ if matches!(failure, Failure::Status(_)) && situation.asked_back => {
                Decision::SameNode
            }
            _ => denied(Denied::NoCandidate),
        }
    }

    fn lists(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.on.connect,
            // What certainly was not sent is repeated whatever the policy lists.
            Failure::Unsent => true,
            Failure::Reset { .. } => self.on.reset,
            Failure::Timeout | Failure::Left => self.on.timeout,
            Failure::Status(code) => self.on.statuses.contains(&code),
            Failure::Grpc(code) => self.grpc.contains(&code),
            Failure::Protocol => false,
        }
    }

    fn method_allows(&self, failure: Failure, of: RepeatableMethods) -> bool {
        match failure {
            // Unsent is unseen; and the operator named the gRPC codes that say "not processed",
            // for gRPC has only POST.
            Failure::Connect | Failure::Unsent | Failure::Grpc(_) => true,
            Failure::Timeout | Failure::Left => self.on_timeout.cover(of),
            Failure::Reset { .. } | Failure::Status(_) | Failure::Protocol => {
                self.methods.cover(of)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::default()
    }

    fn situation(method: &Method) -> Situation {
        Situation {
            repeatable: RepeatableMethods::class_of(method),
            body_replayable: true,
            attempts: 1,
            time_left: true,
            next_node: true,
            only_node: false,
            asked_back: false,
            nested: false,
        }
    }

    const RESET: Failure = Failure::Reset { pooled: false };
    const STALE: Failure = Failure::Reset { pooled: true };

    #[test]
    fn methods_decide_after_bytes_were_sent() {
        use Decision::{NextNode, Stop};
        let no = Stop(Denied::Method);
        // Failure; then what follows it for GET, PUT and POST.
        let table = [
            (Failure::Connect, [NextNode, NextNode, NextNode]),
            (Failure::Unsent, [NextNode, NextNode, NextNode]),
            (RESET, [NextNode, NextNode, no]),
            (Failure::Timeout, [NextNode, no, no]),
            (Failure::Status(503), [NextNode, NextNode, no]),
            (Failure::Status(500), [Stop(Denied::Policy); 3]),
            (Failure::Protocol, [Stop(Denied::Policy); 3]),
        ];
        for (failure, expected) in table {
            let methods = [Method::GET, Method::PUT, Method::POST];
            let found = methods.map(|it| policy().decide(failure, &situation(&it)));
            assert_eq!(found, expected, "{failure:?}");
        }
    }

    #[test]
    fn methods_none_still_repeats_what_was_not_sent() {
        let mut policy = policy();
        policy.methods = RepeatableMethods::None;
        let get = situation(&Method::GET);
        assert_eq!(policy.decide(RESET, &get), Decision::Stop(Denied::Method));
        assert_eq!(policy.decide(Failure::Connect, &get), Decision::NextNode);
    }

    #[test]
    fn a_listed_grpc_status_is_repeated_although_grpc_posts() {
        let mut policy = policy();
        let unavailable = Failure::Grpc(GrpcCode::UNAVAILABLE);
        let post = situation(&Method::POST);
        assert_eq!(
            policy.decide(unavailable, &post),
            Decision::Stop(Denied::Policy)
        );
        policy.grpc = vec![GrpcCode::UNAVAILABLE];
        assert_eq!(policy.decide(unavailable, &post), Decision::NextNode);
    }

    #[test]
    fn each_bound_denies_by_its_name() {
        let get = situation(&Method::GET);
        let cases = [
            (Situation { attempts: 3, ..get }, Denied::Attempts),
            (
                Situation {
                    body_replayable: false,
                    ..get
                },
                Denied::Body,
            ),
            (
                Situation {
                    time_left: false,
                    ..get
                },
                Denied::Deadline,
            ),
            (
                Situation {
                    next_node: false,
                    ..get
                },
                Denied::NoCandidate,
            ),
        ];
        for (situation, why) in cases {
            assert_eq!(policy().decide(RESET, &situation), Decision::Stop(why));
        }
    }

    #[test]
    fn a_suspect_neighbour_is_not_preferred_to_the_only_usable_node() {
        let beside_a_suspect = Situation {
            only_node: true,
            ..situation(&Method::GET)
        };
        assert_eq!(
            policy().decide(STALE, &beside_a_suspect),
            Decision::SameNode
        );
        assert_eq!(
            policy().decide(Failure::Connect, &beside_a_suspect),
            Decision::NextNode
        );
    }

    #[test]
    fn a_retry_of_another_hop_is_not_retried_but_where_nobody_saw_it() {
        let nested = Situation {
            nested: true,
            ..situation(&Method::GET)
        };
        for failure in [RESET, Failure::Timeout, Failure::Left, Failure::Status(503)] {
            let denied = Decision::Stop(Denied::Nested);
            assert_eq!(policy().decide(failure, &nested), denied);
        }
        for failure in [Failure::Connect, Failure::Unsent] {
            assert_eq!(policy().decide(failure, &nested), Decision::NextNode);
        }
    }

    #[test]
    fn who_asks_to_be_asked_again_is_when_nobody_else_is_left() {
        let alone = Situation {
            next_node: false,
            asked_back: true,
            ..situation(&Method::GET)
        };
        let status = Failure::Status(503);
        assert_eq!(policy().decide(status, &alone), Decision::SameNode);
        let others = Situation {
            next_node: true,
            ..alone
        };
        assert_eq!(policy().decide(status, &others), Decision::NextNode);
        let post = Situation {
            asked_back: true,
            ..situation(&Method::POST)
        };
        assert_eq!(
            policy().decide(status, &post),
            Decision::Stop(Denied::Method)
        );
    }

    #[test]
    fn the_only_node_is_tried_again_only_when_it_did_not_answer_at_all() {
        let alone = Situation {
            next_node: false,
            only_node: true,
            ..situation(&Method::GET)
        };
        for failure in [Failure::Connect, Failure::Unsent, STALE] {
            assert_eq!(policy().decide(failure, &alone), Decision::SameNode);
        }
        for failure in [RESET, Failure::Timeout, Failure::Status(503)] {
            assert_eq!(
                policy().decide(failure, &alone),
                Decision::Stop(Denied::NoCandidate)
            );
        }
    }
}
