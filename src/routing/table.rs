//! Pure: finds the first route that matches, without walking a list of them.
//!
//! A trie over path segments leads to the patterns that match a path; each node of it is visited at
//! most once a request. At a pattern's end routes are found by their exact host and by one exact
//! header, so that a thousand routes that differ in path, host or header cost what one costs. Of
//! everything found the lowest place in the list wins, which is the first match.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderName, Method};

use crate::head::{Captures, PathPattern, RequestHead, Segment, segments};

/// Which requests take a route: those that meet every condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// The path's pattern.
    pub path: Option<PathPattern>,
    /// The methods; empty for any. GET does not imply HEAD.
    pub methods: Vec<Method>,
    /// The host without port, compared without case.
    pub host: Option<String>,
    /// Header fields and a value that one line of each must have.
    pub headers: Vec<(HeaderName, String)>,
    /// The listener that accepted the connection.
    pub listener: Option<String>,
}

/// The routes, ready to be found by a request's head.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<RouteMatch>,
    /// The root at 0.
    nodes: Vec<Node>,
    /// Routes without a path.
    any_path: Leaf,
    /// Whether any route names a host: else no request's is looked at.
    names_hosts: bool,
}

/// A place in the trie: the path so far.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    capture: Option<usize>,
    /// Patterns that end here.
    end: Leaf,
    /// Patterns that go on with `**` here.
    rest: Leaf,
}

/// The routes of one pattern, or none, by host.
#[derive(Debug, Default)]
struct Leaf {
    by_host: HashMap<Box<str>, Bucket>,
    any_host: Bucket,
}

/// The routes of one pattern and host, by their first header.
#[derive(Debug, Default)]
struct Bucket {
    by_header: Vec<(HeaderName, ByValue)>,
    /// Routes without a header, in their order.
    others: Vec<usize>,
}

/// Routes by the value of a header, in their order.
type ByValue = HashMap<Box<[u8]>, Vec<usize>>;

/// A request while its route is found.
struct Search<'h, 'a> {
    table: &'h RouteTable,
    head: &'h RequestHead<'a>,
    host: Cow<'a, str>,
    best: usize,
}

// === impl RouteTable ===

impl RouteTable {
    /// The table of `routes`, the first that matches first.
    pub fn new(routes: Vec<RouteMatch>) -> Self {
        let mut table = Self {
            nodes: vec![Node::default()],
            ..Self::default()
        };
        for (place, route) in routes.iter().enumerate() {
            table.leaf(route.path.as_ref()).insert(place, route);
        }
        table.names_hosts = routes.iter().any(|it| it.host.is_some());
        table.routes = routes;
        table
    }

    /// The place of the first route that matches, and what its path captured.
    pub fn find<'a>(&self, head: &RequestHead<'a>) -> Option<(usize, Captures<'a>)> {
        let host = if self.names_hosts { head.host() } else { "" };
        let upper = host.bytes().any(|it| it.is_ascii_uppercase());
        let host = if upper {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let mut search = Search {
            table: self,
            head,
            host,
            best: usize::MAX,
        };
        search.leaf(&self.any_path);
        if let Some(segments) = segments(head.path) {
            search.walk(0, segments);
        }
        let route = self.routes.get(search.best)?;
        let captures = route.path.as_ref().and_then(|it| it.matches(head.path));
        Some((search.best, captures.unwrap_or_default()))
    }

    fn leaf(&mut self, path: Option<&PathPattern>) -> &mut Leaf {
        let Some(path) = path else {
            return &mut self.any_path;
        };
        let mut at = 0;
        for segment in path.segments() {
            at = self.child(at, segment);
        }
        let node = &mut self.nodes[at];
        if path.has_rest() {
            &mut node.rest
        } else {
            &mut node.end
        }
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match segment {
            Segment::Literal(text) => *node.literals.entry(text.as_str().into()).or_insert(new),
            Segment::Capture(_) => *node.capture.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }
}

impl Leaf {
    fn insert(&mut self, place: usize, route: &RouteMatch) {
        let bucket = match &route.host {
            Some(host) => self
                .by_host
                .entry(host.to_ascii_lowercase().into())
                .or_default(),
            None => &mut self.any_host,
        };
        let Some((name, value)) = route.headers.first() else {
            bucket.others.push(place);
            return;
        };
        let known = bucket.by_header.iter().position(|it| it.0 == *name);
        let known = known.unwrap_or_else(|| {
            bucket.by_header.push((name.clone(), HashMap::new()));
            bucket.by_header.len() - 1
        });
        let values = &mut bucket.by_header[known].1;
        values
            .entry(value.as_bytes().into())
            .or_default()
            .push(place);
    }
}

// === impl Search ===

impl<'a> Search<'_, 'a> {
    /// Looks at every pattern below the node `at` that matches the segments left.
    fn walk(&mut self, at: usize, mut left: std::str::Split<'a, char>) {
        let node = &self.table.nodes[at];
        self.leaf(&node.rest);
        let Some(segment) = left.next() else {
            self.leaf(&node.end);
            return;
        };
        if let Some(child) = node.literals.get(segment) {
            self.walk(*child, left.clone());
        }
        if let Some(child) = node.capture
            && !segment.is_empty()
        {
            self.walk(child, left);
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        self.bucket(&leaf.any_host);
        if let Some(bucket) = leaf.by_host.get(&*self.host) {
            self.bucket(bucket);
        }
    }

    fn bucket(&mut self, bucket: &Bucket) {
        self.first(&bucket.others);
        for (name, values) in &bucket.by_header {
            for value in self.head.fields.values(name) {
                if let Some(routes) = values.get(value) {
                    self.first(routes);
                }
            }
        }
    }

    /// The first of `routes` that is better than the best and whose other conditions hold.
    fn first(&mut self, routes: &[usize]) {
        let better = routes.iter().take_while(|it| **it < self.best);
        let mut matching = better.filter(|it| self.table.routes[**it].holds(self.head));
        if let Some(found) = matching.next() {
            self.best = *found;
        }
    }
}

impl RouteMatch {
    /// Whether the conditions hold that no index stands for.
    fn holds(&self, head: &RequestHead<'_>) -> bool {
        let has = |(name, value): &(HeaderName, String)| {
            head.fields.values(name).any(|it| it == value.as_bytes())
        };
        (self.methods.is_empty() || self.methods.contains(head.method))
            && self.listener.as_ref().is_none_or(|it| it == head.listener)
            && self.headers.iter().skip(1).all(has)
    }
}

#[cfg(test)]
mod tests;
