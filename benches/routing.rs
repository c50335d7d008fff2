//! Does finding a route cost more with a thousand routes than with one, and a plan with a thousand
//! nodes than with one, and what does a key cost?
//!
//! `cargo bench --bench routing`
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method};
use keyway::cluster::{Circumstances, Pick, State, reconcile};
use keyway::config::{Config, Overrides};
use keyway::head::{Fields, RequestHead};
use keyway::key::{Body, KeySpec};
use keyway::routing::{Captures, PathPattern, RouteMatch, RouteTable};

const TABLES: [usize; 3] = [1, 10, 1000];

fn main() {
    divan::main();
}

fn head<'a>(path: &'a str, authority: &'a str, fields: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead {
        method: &Method::GET,
        authority,
        path,
        query: Some("tenant=t1&user=42"),
        fields: Fields::from(fields),
        client: None,
        listener: "app",
    }
}

/// Routes that differ in their path; the last one matches.
#[divan::bench(args = TABLES)]
fn find_by_path(bencher: Bencher<'_, '_>, routes: usize) {
    let route = |at| RouteMatch {
        path: Some(format!("/svc{at}/users/{{id}}/**").parse().unwrap()),
        ..RouteMatch::default()
    };
    let table = RouteTable::new((0..routes).map(route).collect());
    let (path, fields) = (
        format!("/svc{}/users/42/posts", routes - 1),
        HeaderMap::new(),
    );
    let head = head(&path, "api.test", &fields);
    bencher.bench_local(|| table.find(black_box(&head)).unwrap().0);
}

/// Routes that differ in their host; the last one matches.
#[divan::bench(args = TABLES)]
fn find_by_host(bencher: Bencher<'_, '_>, routes: usize) {
    let route = |at| RouteMatch {
        host: Some(format!("svc{at}.test")),
        ..RouteMatch::default()
    };
    let table = RouteTable::new((0..routes).map(route).collect());
    let (host, fields) = (format!("svc{}.test", routes - 1), HeaderMap::new());
    let head = head("/users/42", &host, &fields);
    bencher.bench_local(|| table.find(black_box(&head)).unwrap().0);
}

/// Routes that differ in a header's value; the last one matches.
#[divan::bench(args = TABLES)]
fn find_by_header(bencher: Bencher<'_, '_>, routes: usize) {
    let route = |at: usize| RouteMatch {
        headers: vec![("x-tenant".parse().unwrap(), at.to_string())],
        ..RouteMatch::default()
    };
    let table = RouteTable::new((0..routes).map(route).collect());
    let mut fields = HeaderMap::new();
    fields.insert("x-tenant", HeaderValue::from(routes - 1));
    let head = head("/users/42", "api.test", &fields);
    bencher.bench_local(|| table.find(black_box(&head)).unwrap().0);
}

const SOURCES: [&str; 6] = [
    "header:x-user",
    "cookie:sid",
    "query:user",
    "path:id",
    "host",
    "{header:x-user}/{path:id}",
];

#[divan::bench(args = SOURCES)]
fn key(bencher: Bencher<'_, '_>, source: &str) {
    let pattern: PathPattern = "/users/{id}/**".parse().unwrap();
    let spec = KeySpec::parse(&[source.to_owned()], Some(&pattern)).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("x-user", HeaderValue::from_static("ada"));
    fields.insert("cookie", HeaderValue::from_static("a=1; sid=s42; b=2"));
    let head = head("/users/42/posts", "api.test", &fields);
    let captures: Captures<'_> = pattern.matches(head.path).unwrap();
    bencher.bench_local(|| {
        spec.lookup(black_box(&head), &captures, Body::Unread)
            .unwrap()
    });
}

/// The state of `nodes` shards of one node each, as flags make it.
fn state(nodes: usize) -> State {
    let node = |at| format!("n{at}=127.0.0.1:{}", 1024 + at);
    let nodes: Vec<_> = (0..nodes).map(node).collect();
    let (listen, key) = (["127.0.0.1:0".to_owned()], ["path".to_owned()]);
    let config = Config::from_flags(&listen, &key, &nodes, &Overrides::default(), 1).unwrap();
    let circumstances = Circumstances {
        threads: 1,
        now: Duration::ZERO,
    };
    reconcile(None, config.desired, circumstances)
        .unwrap()
        .state
}

/// The first node of the plan of each of 1024 keys: its slot, its shard, the order of the shard's nodes, standing.
#[divan::bench(args = [1, 10, 1000])]
fn first_of_plan(bencher: Bencher<'_, '_>, nodes: usize) {
    let state = state(nodes);
    let cluster = &state.clusters[0];
    let keys: Vec<_> = (0..1024).map(|at| format!("/users/{at}")).collect();
    bencher
        .counter(ItemsCount::new(keys.len()))
        .bench_local(|| {
            for key in &keys {
                let key = black_box(key.as_bytes());
                let token = cluster.placement.token(key);
                black_box(Pick::new(cluster, Some(key), token).next(cluster, 0, || 0));
            }
        });
}

/// All of a plan, as if every node failed: up to the bound of attempts.
#[divan::bench(args = [1, 10, 1000])]
fn whole_plan(bencher: Bencher<'_, '_>, nodes: usize) {
    let state = state(nodes);
    let cluster = &state.clusters[0];
    let key = b"/users/42";
    bencher.bench_local(|| {
        let mut pick = Pick::new(cluster, Some(key), cluster.placement.token(key));
        std::iter::from_fn(|| pick.next(cluster, 0, || 0).target()).count()
    });
}
