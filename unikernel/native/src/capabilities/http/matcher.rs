//! Finding the route of a request.
//!
//! A path is taken apart at its slashes, then each segment is percent-decoded, so `%2F` never separates two of them.
//! Where several routes match, the segments decide from the left: a literal one before `:name`, `:name` before `*`, and
//! a `*` takes no more segments than it must. Of two routes of the same form, the one that was registered first answers.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::routes::{Route, RouteMethod, RouteTable, split};

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Match(Match),
    /// The path has routes, and none for the method: a list of those that it does answer, HEAD and OPTIONS among them.
    MethodNotAllowed(String),
    NotFound,
}

/// A handler, and what its route's parameters matched, by name in the route's order; `*` is the name of a `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub handler: Arc<str>,
    pub params: Vec<(String, String)>,
}

/// Why nothing is known of a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// A segment is not UTF-8 once it's decoded.
    NotUtf8,
    /// The machine has no memory to look for it.
    NoRoom,
}

/// Routes made ready for look-up.
#[derive(Debug)]
pub struct Matcher {
    /// One for each of `RouteMethod::ALL`.
    methods: [MethodRoutes; 4],
}

/// The routes of one method: all of them in a tree, whose root is the first node, and where in it those without
/// parameters end, by path.
#[derive(Debug)]
struct MethodRoutes {
    exact: Vec<(String, usize)>,
    nodes: Vec<Node>,
}

/// A place in the tree of routes: what may come next, and the route that ends here.
#[derive(Debug, Default)]
struct Node {
    literals: Vec<(String, usize)>,
    param: Option<usize>,
    star: Option<usize>,
    is_star: bool,
    leaf: Option<Leaf>,
}

/// The end of a route: its handler, and the names of the parameters on the way to it.
#[derive(Debug)]
struct Leaf {
    handler: Arc<str>,
    names: Vec<String>,
}

impl Matcher {
    pub fn new(table: &RouteTable) -> Matcher {
        let mut matcher = Matcher { methods: core::array::from_fn(|_| MethodRoutes::new()) };
        for route in table.routes() {
            matcher.methods[route.method as usize].insert(&route);
        }
        matcher
    }

    /// Finds the route for a request's path as it was sent, without query. `method` is none for one that no route has;
    /// for HEAD it is that of GET.
    pub fn find(&self, method: Option<RouteMethod>, path: &str) -> Result<Found, Unmatched> {
        let routes = method.map(|method| &self.methods[method as usize]);
        if let Some(leaf) = routes.and_then(|routes| routes.nodes[get(&routes.exact, path)?].leaf.as_ref()) {
            return Ok(Found::Match(Match { handler: leaf.handler.clone(), params: Vec::new() }));
        }
        let segments = split(path).into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        if let Some(routes) = routes
            && let Some(found) = routes.find(&segments)?
        {
            return Ok(Found::Match(found));
        }
        let mut allowed = String::new();
        for other in RouteMethod::ALL {
            if Some(other) != method && self.methods[other as usize].find(&segments)?.is_some() {
                allowed += other.name();
                allowed += if other == RouteMethod::Get { ", HEAD, " } else { ", " };
            }
        }
        if allowed.is_empty() {
            return Ok(Found::NotFound);
        }
        allowed += "OPTIONS";
        Ok(Found::MethodNotAllowed(allowed))
    }
}

/// What a parameter took: the first of its segments, and the one after the last. Those that parameters before it took
/// are a list, which the ways that are still to be tried share.
struct Capture {
    before: Captures,
    start: usize,
    end: usize,
}

type Captures = Option<Arc<Capture>>;

impl MethodRoutes {
    fn new() -> MethodRoutes {
        MethodRoutes { exact: Vec::new(), nodes: alloc::vec![Node::default()] }
    }

    fn insert(&mut self, route: &Route) {
        let segments = split(&route.pattern);
        let mut names = Vec::new();
        let mut at = 0;
        for segment in &segments {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            let is_star = *segment == "*";
            at = if is_star {
                names.push("*".to_string());
                *node.star.get_or_insert(next)
            } else if let Some(name) = segment.strip_prefix(':') {
                names.push(name.to_string());
                *node.param.get_or_insert(next)
            } else {
                get_or_insert(&mut node.literals, segment, next)
            };
            if at == next {
                self.nodes.push(Node { is_star, ..Node::default() });
            }
        }
        if names.is_empty() && !route.pattern.contains('%') {
            self.insert_exact(&segments, at);
        }
        self.nodes[at].leaf.get_or_insert(Leaf { handler: route.handler.clone(), names });
    }

    /// Notes the paths, as they are sent, that are the route of these segments and no other: with and without a slash
    /// at the end.
    fn insert_exact(&mut self, segments: &[&str], node: usize) {
        let path = "/".to_string() + &segments.join("/");
        if !segments.is_empty() {
            get_or_insert(&mut self.exact, &(path.clone() + "/"), node);
        }
        if segments.last() != Some(&"") {
            get_or_insert(&mut self.exact, &path, node);
        }
    }

    /// The best route for the segments.
    ///
    /// A depth-first search with a stack of its own, as both routes and paths are long at will. A place that was
    /// reached once and led nowhere is not tried again, so its time is linear in the segments for any one tree.
    fn find(&self, segments: &[Cow<'_, str>]) -> Result<Option<Match>, Unmatched> {
        let mut stack: Vec<(usize, usize, Captures)> = alloc::vec![(0, 0, None)];
        let mut tried = Tried::new(self.nodes.len(), segments.len())?;
        while let Some((number, at, captures)) = stack.pop() {
            let node = &self.nodes[number];
            let Some(segment) = segments.get(at) else {
                if let Some(leaf) = &node.leaf {
                    return Ok(Some(leaf.as_match(segments, captures)));
                }
                continue;
            };
            if !tried.insert(number, at) {
                continue;
            }
            // What is pushed last is tried first.
            if let (true, Some(last)) = (node.is_star, &captures) {
                let leads_on = !node.literals.is_empty() || node.param.is_some() || node.star.is_some();
                let end = if leads_on { at + 1 } else { segments.len() };
                let longer = Capture { before: last.before.clone(), start: last.start, end };
                stack.push((number, end, Some(Arc::new(longer))));
            }
            let capture = || Some(Arc::new(Capture { before: captures.clone(), start: at, end: at + 1 }));
            if let Some(star) = node.star {
                stack.push((star, at + 1, capture()));
            }
            if let Some(param) = node.param
                && !segment.is_empty()
            {
                stack.push((param, at + 1, capture()));
            }
            if let Some(literal) = get(&node.literals, segment) {
                stack.push((literal, at + 1, captures));
            }
        }
        Ok(None)
    }
}

/// The places in a tree, and in a path, that were reached: a bit for each pair.
struct Tried {
    bits: Vec<u64>,
    segments: usize,
}

impl Tried {
    fn new(nodes: usize, segments: usize) -> Result<Tried, Unmatched> {
        let words = nodes.saturating_mul(segments).div_ceil(64);
        let mut bits = Vec::new();
        bits.try_reserve_exact(words).map_err(|_| Unmatched::NoRoom)?;
        bits.resize(words, 0);
        Ok(Tried { bits, segments })
    }

    /// Whether it is reached for the first time.
    fn insert(&mut self, node: usize, segment: usize) -> bool {
        let place = node * self.segments + segment;
        let (word, bit) = (&mut self.bits[place / 64], 1 << (place % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// What a sorted list has for a text.
fn get(sorted: &[(String, usize)], text: &str) -> Option<usize> {
    let at = sorted.binary_search_by(|(other, _)| other.as_str().cmp(text)).ok()?;
    Some(sorted[at].1)
}

/// The same, or `number`, which it has from now on.
fn get_or_insert(sorted: &mut Vec<(String, usize)>, text: &str, number: usize) -> usize {
    match sorted.binary_search_by(|(other, _)| other.as_str().cmp(text)) {
        Ok(at) => sorted[at].1,
        Err(at) => {
            sorted.insert(at, (text.into(), number));
            number
        }
    }
}

impl Drop for Capture {
    /// Drops those before it one by one, as a path may have thousands.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut capture) = next.and_then(Arc::into_inner) {
            next = capture.before.take();
        }
    }
}

impl Leaf {
    fn as_match(&self, segments: &[Cow<'_, str>], captures: Captures) -> Match {
        let mut params = Vec::with_capacity(self.names.len());
        let mut next = captures.as_deref();
        for name in self.names.iter().rev() {
            let Some(capture) = next else { break };
            params.push((name.clone(), segments[capture.start..capture.end].join("/")));
            next = capture.before.as_deref();
        }
        params.reverse();
        Match { handler: self.handler.clone(), params }
    }
}

/// Percent-decoding (RFC 3986 section 2.1); what isn't an escape is itself.
fn decode(segment: &str) -> Result<Cow<'_, str>, Unmatched> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hex);
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Unmatched::NotUtf8)
}

/// The byte that two hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let &[high, low] = digits else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
