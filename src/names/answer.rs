//! Pure: what answers come to.
//!
//! The order of addresses is made here and is a function of the set of records alone: however a
//! name server shuffles them, the result is the same.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Addresses that are kept of a name. More would not be tried within any `connect_timeout`.
pub const ADDRESSES_MAX: usize = 32;

/// Targets of a service that are looked up.
const TARGETS_MAX: usize = 16;

/// How long an answer holds of which a part is missing because it was not to be had.
const PARTIAL: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The answer is that there is nothing: no such name, or no records of the kind.
    #[error("it has no addresses")]
    Empty,
    /// A name server refuses or fails, or none can be asked.
    #[error("{0}")]
    Refused(String),
    /// No name server answered.
    #[error("no answer in time")]
    TimedOut,
}

/// What a question came to, at least one record, and how long it holds.
pub(super) type Answer<T> = Result<(T, Duration), Failure>;

/// The addresses of one host, of each family sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

/// A target of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) host: String,
}

/// What a name stands for, as last answered; at first nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(Vec<Place>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The name of the host, of a service's target.
    name: String,
    /// Its port, of a service's target.
    port: Option<u16>,
    host: Host,
}

/// Addresses of a name, in the order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// At most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// How many there were beyond them.
    pub cut: usize,
}

impl Host {
    /// The host after new answers, and how long they hold. A family whose question failed keeps its
    /// last addresses as long as the other has an answer.
    pub(super) fn answered(
        &self,
        v4: Answer<Vec<Ipv4Addr>>,
        v6: Answer<Vec<Ipv6Addr>>,
    ) -> Answer<Self> {
        match (v4, v6) {
            (Err(Failure::Empty), Err(failure)) | (Err(failure), Err(_)) => Err(failure),
            (v4, v6) => {
                let (v4, v4_ttl) = family(v4, &self.v4);
                let (v6, v6_ttl) = family(v6, &self.v6);
                Ok((Self { v4, v6 }, v4_ttl.min(v6_ttl)))
            }
        }
    }

    /// The families by turns, IPv6 first (RFC 8305 section 4, with a First Address Family Count of
    /// one).
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = |at| self.v6.get(at).copied().map(IpAddr::V6);
        let v4 = |at| self.v4.get(at).copied().map(IpAddr::V4);
        let turns = 0..self.v4.len().max(self.v6.len());
        turns.flat_map(move |at| [v6(at), v4(at)]).flatten()
    }
}

/// One family's addresses, sorted, and how long they hold.
fn family<T: Clone + Ord>(answer: Answer<Vec<T>>, last: &[T]) -> (Vec<T>, Duration) {
    match answer {
        Ok((mut records, ttl)) => {
            records.sort_unstable();
            records.dedup();
            (records, ttl)
        }
        Err(Failure::Empty) => (Vec::new(), Duration::MAX),
        Err(_) => (last.to_vec(), PARTIAL),
    }
}

/// The targets in the order that they are tried: by priority, the greater weight first. A weight is
/// a share (RFC 2782) only among many clients' choices; keyway's must be the same each time.
pub(super) fn order(mut targets: Vec<Target>) -> Vec<Target> {
    targets.retain(|it| it.port != 0 && it.host != ".");
    targets.sort_unstable_by(|a, b| {
        let key = |it: &Target| (it.priority, Reverse(it.weight), it.port);
        key(a).cmp(&key(b)).then_with(|| a.host.cmp(&b.host))
    });
    targets.dedup();
    targets.truncate(TARGETS_MAX);
    targets
}

impl Known {
    /// The addresses of one host.
    pub(super) fn of_host(host: Host) -> Self {
        let (name, port) = (String::new(), None);
        Self(vec![Place { name, port, host }])
    }

    /// What is known after the hosts of `targets` were looked up, and how long that holds; `ttl` is
    /// the targets' own. One that failed keeps its last addresses.
    pub(super) fn of_targets(
        &self,
        targets: Vec<(Target, Answer<Host>)>,
        ttl: Duration,
    ) -> Answer<Self> {
        let (mut places, mut ttl, mut failed) = (Vec::new(), ttl, Failure::Empty);
        for (target, found) in targets {
            let (host, host_ttl) = match found {
                Ok(found) => found,
                Err(failure) => {
                    let last = self.host(&target.host);
                    failed = failure;
                    (last, PARTIAL)
                }
            };
            ttl = ttl.min(host_ttl);
            places.push(Place {
                name: target.host,
                port: Some(target.port),
                host,
            });
        }
        let known = Self(places);
        if known.0.iter().all(|it| it.host == Host::default()) {
            return Err(failed);
        }
        Ok((known, ttl))
    }

    /// The last addresses of the host of that name, which is empty but for a service's target.
    pub(super) fn host(&self, name: &str) -> Host {
        let place = self.0.iter().find(|it| it.name == name);
        place.map(|it| it.host.clone()).unwrap_or_default()
    }

    /// The addresses to connect to, in the order of preference; `port` is that of a host.
    pub fn addresses(&self, port: Option<u16>) -> Kept {
        let mut kept = Kept::default();
        for place in &self.0 {
            let Some(port) = place.port.or(port) else {
                continue;
            };
            for address in place.host.addresses() {
                let address = SocketAddr::new(address, port);
                if kept.addresses.contains(&address) {
                    continue;
                }
                if kept.addresses.len() < ADDRESSES_MAX {
                    kept.addresses.push(address);
                } else {
                    kept.cut += 1;
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(1);

    #[expect(clippy::unnecessary_wraps, reason = "it stands for an answer")]
    fn v4(last: &[u8]) -> Answer<Vec<Ipv4Addr>> {
        let address = |last: &u8| Ipv4Addr::new(10, 0, 0, *last);
        Ok((last.iter().map(address).collect(), TTL))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for an answer")]
    fn v6(last: &[u16]) -> Answer<Vec<Ipv6Addr>> {
        let address = |last: &u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, *last);
        Ok((last.iter().map(address).collect(), TTL))
    }

    fn refused<T>() -> Answer<T> {
        Err(Failure::Refused("SERVFAIL".to_owned()))
    }

    fn host(v4: Answer<Vec<Ipv4Addr>>, v6: Answer<Vec<Ipv6Addr>>) -> Host {
        Host::default().answered(v4, v6).unwrap().0
    }

    fn texts(known: &Known) -> Vec<String> {
        let kept = known.addresses(Some(80));
        kept.addresses.iter().map(ToString::to_string).collect()
    }

    fn target(priority: u16, weight: u16, host: &str) -> Target {
        Target {
            priority,
            weight,
            port: 8080,
            host: host.to_owned(),
        }
    }

    #[test]
    fn families_take_turns_whatever_the_order_of_records() {
        let one = host(v4(&[2, 1, 3]), v6(&[9, 8]));
        let other = host(v4(&[3, 2, 1, 1]), v6(&[8, 9]));
        assert_eq!(one, other);
        assert_eq!(
            texts(&Known::of_host(one)),
            [
                "[fd00::8]:80",
                "10.0.0.1:80",
                "[fd00::9]:80",
                "10.0.0.2:80",
                "10.0.0.3:80"
            ]
        );
    }

    #[test]
    fn a_family_that_fails_keeps_its_last_addresses_beside_the_other() {
        let last = host(v4(&[1]), v6(&[1]));
        let (kept, ttl) = last.answered(v4(&[2]), refused()).unwrap();
        assert_eq!((kept, ttl), (host(v4(&[2]), v6(&[1])), PARTIAL));
        let (gone, ttl) = last.answered(v4(&[2]), Err(Failure::Empty)).unwrap();
        assert_eq!((gone, ttl), (host(v4(&[2]), Err(Failure::Empty)), TTL));
    }

    #[test]
    fn no_answer_is_empty_only_when_both_say_so() {
        let last = host(v4(&[1]), v6(&[1]));
        let both = last.answered(Err(Failure::Empty), Err(Failure::Empty));
        assert_eq!(both, Err(Failure::Empty));
        assert_eq!(last.answered(refused(), Err(Failure::Empty)), refused());
        assert_eq!(last.answered(Err(Failure::Empty), refused()), refused());
    }

    #[test]
    fn of_a_thousand_records_the_same_few_are_kept() {
        let mut records: Vec<_> = (0..1000_u32)
            .map(|at| Ipv4Addr::from(0x0a00_0000 + at))
            .collect();
        let forwards = host(Ok((records.clone(), TTL)), v6(&[1]));
        records.reverse();
        let backwards = host(Ok((records, TTL)), v6(&[1]));
        let kept = Known::of_host(forwards).addresses(Some(80));
        assert_eq!(kept, Known::of_host(backwards).addresses(Some(80)));
        assert_eq!((kept.addresses.len(), kept.cut), (ADDRESSES_MAX, 969));
    }

    #[test]
    fn targets_are_tried_by_priority_then_weight() {
        let targets = vec![
            target(2, 9, "c."),
            target(1, 1, "b."),
            target(1, 5, "a."),
            target(0, 0, "."),
        ];
        let ordered = order(targets);
        let names: Vec<_> = ordered.iter().map(|it| it.host.as_str()).collect();
        assert_eq!(names, ["a.", "b.", "c."]);
    }

    #[test]
    fn a_target_that_fails_keeps_its_last_addresses() {
        let found = |last: u8| Ok((host(v4(&[last]), Err(Failure::Empty)), TTL));
        let both = vec![
            (target(1, 0, "a."), found(1)),
            (target(2, 0, "b."), found(2)),
        ];
        let (known, ttl) = Known::default().of_targets(both, TTL).unwrap();
        assert_eq!(texts(&known), ["10.0.0.1:8080", "10.0.0.2:8080"]);
        assert_eq!(ttl, TTL);
        let one = vec![
            (target(1, 0, "b."), found(3)),
            (target(2, 0, "a."), refused()),
            (target(3, 0, "c."), refused()),
        ];
        let (known, ttl) = known.of_targets(one, TTL).unwrap();
        assert_eq!(texts(&known), ["10.0.0.3:8080", "10.0.0.1:8080"]);
        assert_eq!(ttl, PARTIAL);
        let none = vec![(target(1, 0, "c."), refused())];
        let failed = known.of_targets(none, TTL).unwrap_err();
        assert_eq!(failed, Failure::Refused("SERVFAIL".to_owned()));
    }
}
