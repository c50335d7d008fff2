//! Does finding a route cost more with a thousand routes than with one, and what does a key cost?
//!
//! `cargo bench --bench routing`
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method};
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
