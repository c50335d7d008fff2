use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::head::Fields;

/// A request: method, host, path, the value of header `h` and the listener.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    host: &'static str,
    path: String,
    header: Option<&'static str>,
    listener: &'static str,
}

impl Asked {
    fn with<T>(&self, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let mut fields = HeaderMap::new();
        if let Some(value) = self.header {
            fields.append("h", HeaderValue::from_static("other"));
            fields.append("h", HeaderValue::from_static(value));
        }
        look(&RequestHead {
            method: &self.method,
            authority: self.host,
            path: &self.path,
            query: None,
            fields: Fields::from(&fields),
            client: None,
            listener: self.listener,
        })
    }
}

fn get(path: &str) -> Asked {
    Asked {
        method: Method::GET,
        host: "a.test",
        path: path.to_owned(),
        header: None,
        listener: "app",
    }
}

fn path(pattern: &str) -> RouteMatch {
    RouteMatch {
        path: Some(pattern.parse().unwrap()),
        ..RouteMatch::default()
    }
}

fn find(routes: &[RouteMatch], asked: &Asked) -> Option<usize> {
    let table = RouteTable::new(routes.to_vec());
    asked.with(|head| table.find(head).map(|it| it.0))
}

#[test]
fn the_first_match_wins_over_a_more_exact_one() {
    let routes = [path("/a/{x}"), path("/a/b"), path("/**"), path("/z")];
    assert_eq!(find(&routes, &get("/a/b")), Some(0));
    assert_eq!(find(&routes, &get("/a/b/c")), Some(2));
    assert_eq!(find(&routes, &get("/z")), Some(2));
}

#[test]
fn every_condition_must_hold() {
    let strict = RouteMatch {
        methods: vec![Method::GET],
        host: Some("A.test".to_owned()),
        headers: vec![("h".parse().unwrap(), "1".to_owned())],
        listener: Some("app".to_owned()),
        ..path("/a")
    };
    let matching = || Asked {
        header: Some("1"),
        host: "a.TEST:81",
        ..get("/a")
    };
    let found = |change: fn(&mut Asked)| {
        let mut asked = matching();
        change(&mut asked);
        find(std::slice::from_ref(&strict), &asked)
    };
    assert_eq!(found(|_| ()), Some(0));
    assert_eq!(found(|it| it.method = Method::HEAD), None);
    assert_eq!(found(|it| it.host = "b.test"), None);
    assert_eq!(found(|it| it.header = Some("2")), None);
    assert_eq!(found(|it| it.header = None), None);
    assert_eq!(found(|it| it.listener = "other"), None);
    assert_eq!(found(|it| it.path = "/b".to_owned()), None);
}

#[test]
fn the_star_is_matched_only_by_a_route_without_a_path() {
    assert_eq!(
        find(&[path("/**"), RouteMatch::default()], &get("*")),
        Some(1)
    );
}

#[test]
fn captures_are_those_of_the_route_that_won() {
    let table = RouteTable::new(vec![path("/{a}/x"), path("/{b}/{c}")]);
    let captured = get("/1/2").with(|head| {
        let (route, captures) = table.find(head).unwrap();
        (
            route,
            captures.get(0).map(str::to_owned),
            captures.get(1).map(str::to_owned),
        )
    });
    assert_eq!(captured, (1, Some("1".to_owned()), Some("2".to_owned())));
}

fn any_route() -> impl Strategy<Value = RouteMatch> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("{x}"), Just("")];
    let pattern = (prop::collection::vec(segment, 1..4), any::<bool>());
    let pattern = pattern.prop_filter_map("names differ", |(segments, rest)| {
        let text = format!("/{}{}", segments.join("/"), if rest { "/**" } else { "" });
        text.parse::<PathPattern>().ok()
    });
    let headers = prop::collection::vec(prop_oneof![Just("1"), Just("2")], 0..3);
    (
        prop::option::of(pattern),
        prop::collection::vec(prop_oneof![Just(Method::GET), Just(Method::PUT)], 0..2),
        prop::option::of(prop_oneof![Just("a.test"), Just("B.test")]),
        headers,
        prop::option::of(Just("app")),
    )
        .prop_map(|(path, methods, host, headers, listener)| RouteMatch {
            path,
            methods,
            host: host.map(str::to_owned),
            headers: headers
                .into_iter()
                .map(|it| ("h".parse().unwrap(), it.to_owned()))
                .collect(),
            listener: listener.map(str::to_owned),
        })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    (
        prop_oneof![Just(Method::GET), Just(Method::PUT), Just(Method::HEAD)],
        prop_oneof![Just("A.test"), Just("b.test:1"), Just("c.test")],
        prop::collection::vec(segment, 1..5),
        prop::option::of(prop_oneof![Just("1"), Just("2")]),
        prop_oneof![Just("app"), Just("other")],
    )
        .prop_map(|(method, host, segments, header, listener)| Asked {
            method,
            host,
            path: format!("/{}", segments.join("/")),
            header,
            listener,
        })
}

/// What the contract says, word for word.
fn walk_the_list(routes: &[RouteMatch], head: &RequestHead<'_>) -> Option<usize> {
    routes.iter().position(|route| {
        route
            .path
            .as_ref()
            .is_none_or(|it| it.matches(head.path).is_some())
            && (route.methods.is_empty() || route.methods.contains(head.method))
            && route
                .host
                .as_ref()
                .is_none_or(|it| it.eq_ignore_ascii_case(head.host()))
            && route.listener.as_ref().is_none_or(|it| it == head.listener)
            && route
                .headers
                .iter()
                .all(|(name, value)| head.fields.values(name).any(|it| it == value.as_bytes()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn finds_what_a_walk_of_the_list_finds(
        routes in prop::collection::vec(any_route(), 0..12),
        asked in any_asked(),
    ) {
        let expected = asked.with(|head| walk_the_list(&routes, head));
        prop_assert_eq!(find(&routes, &asked), expected);
    }
}
