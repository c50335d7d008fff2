//! Asks name servers, over hickory-resolver: without its cache, for what is asked is due.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name as DnsName, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::Name;
use super::answer::{Answer, Failure, Host, Known, Target, order};
use super::search::candidates;

/// How long one question may take, over all name servers and repeats.
const QUESTION: Duration = Duration::from_secs(5);

/// How long one round of the name servers may take of it, so that there is a second one, which asks
/// first whom the first one did not reach.
const ROUND: Duration = Duration::from_secs(2);

/// How long the addresses of one family wait for those of the other. Some name servers never answer
/// for AAAA; a lost packet is repeated within that time.
const OTHER_FAMILY: Duration = Duration::from_millis(500);

/// How long what /etc/hosts says holds: looking there again costs next to nothing.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// The files by which the system says how names are resolved.
const SYSTEM: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: TokioResolver,
    hosts: Arc<Hosts>,
    search: Vec<String>,
    ndots: usize,
}

/// What a name stands for, and how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is known of it now.
    pub known: Known,
    /// How long that holds.
    pub ttl: Duration,
}

/// What tells that the system's files changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFiles([Option<(SystemTime, u64)>; 2]);

impl SystemFiles {
    /// The files as they are now.
    pub fn now() -> Self {
        Self(SYSTEM.map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        }))
    }
}

impl Resolver {
    /// A resolver that asks `nameservers`; when there are none, whom /etc/resolv.conf names, by its
    /// search list. /etc/hosts comes before either.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn new(nameservers: &[SocketAddr]) -> Self {
        let (config, mut options) = if nameservers.is_empty() {
            system()
        } else {
            let servers = nameservers.iter().copied().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            (config, ResolverOpts::default())
        };
        options.timeout = options.timeout.min(ROUND);
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let (_, search, servers) = config.into_parts();
        let ndots = options.ndots;
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Self {
            inner: builder
                .build()
                .expect("a resolver without TLS must have nothing to fail by"),
            hosts: Hosts::from_system().unwrap_or_default().into(),
            search: search.iter().map(DnsName::to_ascii).collect(),
            ndots,
        }
    }

    /// Looks `name` up; `last` is what was known of it.
    ///
    /// # Errors
    /// Why there is no answer, or that it has no addresses: `last` holds on.
    pub async fn look_up(&self, name: &Name, last: &Known) -> Result<Found, Failure> {
        let (known, ttl) = match name {
            Name::Host(name) => {
                let (host, ttl) = self.host(name, last.host("")).await?;
                (Known::of_host(host), ttl)
            }
            Name::Service(name) => self.service(name, last).await?,
        };
        Ok(Found { known, ttl })
    }

    /// The targets of a service and their hosts' addresses, all asked for at once.
    async fn service(&self, name: &str, last: &Known) -> Answer<Known> {
        let (targets, ttl) = self.targets(name).await?;
        let mut lookups = JoinSet::new();
        let targets = order(targets);
        for (at, target) in targets.iter().enumerate() {
            let (resolver, name) = (self.clone(), target.host.clone());
            let last = last.host(&name);
            lookups.spawn(async move { (at, resolver.host(&name, last).await) });
        }
        let mut found: Vec<_> = targets
            .into_iter()
            .map(|it| (it, Err(Failure::TimedOut)))
            .collect();
        while let Some(ended) = lookups.join_next().await {
            if let Ok((at, host)) = ended {
                found[at].1 = host;
            }
        }
        last.of_targets(found, ttl)
    }

    async fn targets(&self, name: &str) -> Answer<Vec<Target>> {
        for name in candidates(name, &self.search, self.ndots) {
            match self.ask(&name, RecordType::SRV, target).await {
                Err(Failure::Empty) => {}
                answered => return answered,
            }
        }
        Err(Failure::Empty)
    }

    /// The addresses of a host. A name of the search list that cannot be asked for ends the search:
    /// going on might find another host of the same first name.
    async fn host(&self, name: &str, last: Host) -> Answer<Host> {
        if let Some(host) = self.listed(name) {
            return Ok(host);
        }
        for name in candidates(name, &self.search, self.ndots) {
            let v4 = self.ask(&name, RecordType::A, v4);
            let v6 = self.ask(&name, RecordType::AAAA, v6);
            let (v4, v6) = both(v4, v6).await;
            match last.answered(v4, v6) {
                Err(Failure::Empty) => {}
                answered => return answered,
            }
        }
        Err(Failure::Empty)
    }

    /// What /etc/hosts says.
    fn listed(&self, name: &str) -> Option<(Host, Duration)> {
        let name = DnsName::from_ascii(name).ok()?;
        let query = |kind| Query::query(name.clone(), kind);
        let listed = |kind| self.hosts.lookup_static_host(&query(kind));
        let (v4s, v6s) = (listed(RecordType::A), listed(RecordType::AAAA));
        let v4 = records(v4s.iter().flat_map(Lookup::answers), HOSTS_TTL, v4);
        let v6 = records(v6s.iter().flat_map(Lookup::answers), HOSTS_TTL, v6);
        Host::default().answered(v4, v6).ok()
    }

    /// Asks one question.
    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Answer<Vec<T>> {
        let name = DnsName::from_ascii(name).map_err(|it| Failure::Refused(it.to_string()))?;
        let answered = timeout(QUESTION, self.inner.lookup(name, kind)).await;
        let answered = answered.unwrap_or(Err(NetError::Timeout));
        let lookup = answered.map_err(|error| match error {
            NetError::Timeout => Failure::TimedOut,
            error if error.is_no_records_found() => Failure::Empty,
            error => Failure::Refused(error.to_string()),
        })?;
        let ttl = lookup.answers().iter().map(|it| it.ttl).min();
        let ttl = Duration::from_secs(ttl.unwrap_or_default().into());
        records(lookup.answers().iter(), ttl, read)
    }
}

/// What the system's files say; when they cannot be read, the name server of this machine, as
/// resolv.conf(5) has it.
fn system() -> (ResolverConfig, ResolverOpts) {
    read_system_conf().unwrap_or_else(|error| {
        warn!(%error, "/etc/resolv.conf names no name server: asking 127.0.0.1");
        let local = name_server(SocketAddr::from(([127, 0, 0, 1], 53)));
        let config = ResolverConfig::from_name_servers(vec![local]);
        (config, ResolverOpts::default())
    })
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// The answers to two questions that are asked together. Once there is one, the other has little
/// time left.
async fn both<T, U>(
    one: impl Future<Output = Answer<T>>,
    other: impl Future<Output = Answer<U>>,
) -> (Answer<T>, Answer<U>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    tokio::select! {
        answer = &mut one => {
            let other = second(answer.is_ok(), other).await;
            (answer, other)
        }
        answer = &mut other => {
            let one = second(answer.is_ok(), one).await;
            (one, answer)
        }
    }
}

async fn second<T>(is_answered: bool, question: impl Future<Output = Answer<T>>) -> Answer<T> {
    if is_answered {
        let answer = timeout(OTHER_FAMILY, question).await;
        answer.unwrap_or(Err(Failure::TimedOut))
    } else {
        question.await
    }
}

fn records<'a, T>(
    records: impl Iterator<Item = &'a Record>,
    ttl: Duration,
    read: fn(&RData) -> Option<T>,
) -> Answer<Vec<T>> {
    let records: Vec<_> = records.filter_map(|it| read(&it.data)).collect();
    if records.is_empty() {
        return Err(Failure::Empty);
    }
    Ok((records, ttl))
}

fn v4(data: &RData) -> Option<Ipv4Addr> {
    match data.ip_addr()? {
        IpAddr::V4(address) => is_a_place(address.into()).then_some(address),
        IpAddr::V6(_) => None,
    }
}

fn v6(data: &RData) -> Option<Ipv6Addr> {
    match data.ip_addr()? {
        IpAddr::V6(address) => is_a_place(address.into()).then_some(address),
        IpAddr::V4(_) => None,
    }
}

/// Whether a node can be there. Name servers that block names answer 0.0.0.0, which to connect to is
/// to connect to this very machine.
fn is_a_place(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

fn target(data: &RData) -> Option<Target> {
    let RData::SRV(record) = data else {
        return None;
    };
    Some(Target {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        host: record.target.to_ascii(),
    })
}
