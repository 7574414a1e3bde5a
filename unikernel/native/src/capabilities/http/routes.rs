//! The table of routes that a guest fills.
//!
//! A route is a path of segments. `:name` matches one segment that isn't empty, `*` matches one or more, anything else
//! matches itself. A slash at the end of a route or of a path makes no difference. A route is plain text and is not
//! percent-decoded; `matcher` says how paths are compared with it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bindings::http_types::HttpRouterError;
use crate::capabilities::text::repr;

/// The longest route in characters, its base included.
pub const MAX_PATTERN: usize = 2_000;

/// The most routes of one table. A guest may keep every table that it makes, so each must stay cheap.
pub const MAX_ROUTES: usize = 1_000;

/// The most segments of all routes of a table: a machine has little memory, and each takes a few hundred bytes of it.
pub const MAX_SEGMENTS: usize = 10_000;

/// A method that routes are registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteMethod {
    Get,
    Put,
    Post,
    Delete,
}

impl RouteMethod {
    pub const ALL: [RouteMethod; 4] = [RouteMethod::Get, RouteMethod::Put, RouteMethod::Post, RouteMethod::Delete];

    /// The method as it is sent.
    pub fn name(self) -> &'static str {
        match self {
            RouteMethod::Get => "GET",
            RouteMethod::Put => "PUT",
            RouteMethod::Post => "POST",
            RouteMethod::Delete => "DELETE",
        }
    }
}

/// A method, a pattern with its base, and the name of the function that answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub method: RouteMethod,
    pub pattern: String,
    pub handler: Arc<str>,
}

/// Routes below a base. It never changes: adding a route makes a new table, which shares the old one's routes.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// What every pattern begins with, without a slash at the end.
    base: Arc<str>,
    size: usize,
    segments: usize,
    newest: Option<Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    route: Arc<Route>,
    older: Option<Arc<Entry>>,
}

impl Drop for Entry {
    /// Drops the older entries one by one: left to the compiler, each would be dropped inside the drop of the newer one,
    /// a thousand calls deep.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut entry) = next.and_then(Arc::into_inner) {
            next = entry.older.take();
        }
    }
}

impl RouteTable {
    /// A table without routes. `InvalidUrl` where `base` can't begin a route.
    pub fn with_base(base: &str) -> Result<RouteTable, HttpRouterError> {
        check(base)?;
        let base = base.strip_suffix('/').unwrap_or(base).into();
        Ok(RouteTable { base, ..RouteTable::default() })
    }

    /// The routes in the order of their registration.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let mut routes = Vec::with_capacity(self.size);
        let mut next = self.newest.as_ref();
        while let Some(entry) = next {
            routes.push(entry.route.clone());
            next = entry.older.as_ref();
        }
        routes.reverse();
        routes
    }

    /// This table and one more route, `route` being what follows the base.
    ///
    /// `InvalidUrl` for a pattern that makes no sense, `UnexpectedError` past MAX_ROUTES and MAX_SEGMENTS.
    pub fn add(&self, method: RouteMethod, route: &str, handler: &str) -> Result<RouteTable, HttpRouterError> {
        if self.size >= MAX_ROUTES {
            return Err(HttpRouterError::UnexpectedError(format!("a router holds up to {MAX_ROUTES} routes")));
        }
        if !route.is_empty() && !route.starts_with('/') {
            return Err(invalid(route, "it must begin with '/'"));
        }
        let pattern = format!("{}{route}", self.base);
        check(&pattern)?;
        let segments = self.segments + split(&pattern).len();
        if segments > MAX_SEGMENTS {
            let text = format!("the routes of a router have up to {MAX_SEGMENTS} segments");
            return Err(HttpRouterError::UnexpectedError(text));
        }
        let route = Arc::new(Route { method, pattern, handler: handler.into() });
        let newest = Some(Arc::new(Entry { route, older: self.newest.clone() }));
        Ok(RouteTable { base: self.base.clone(), size: self.size + 1, segments, newest })
    }
}

/// The segments of a path that begins with a slash, or is empty. One slash at the end is not a segment.
pub fn split(path: &str) -> Vec<&str> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    if inside.is_empty() {
        return Vec::new();
    }
    inside.strip_suffix('/').unwrap_or(inside).split('/').collect()
}

/// `InvalidUrl` for a pattern that is no path of segments.
fn check(pattern: &str) -> Result<(), HttpRouterError> {
    let length = pattern.chars().count();
    if length > MAX_PATTERN {
        let text = format!("a route has up to {MAX_PATTERN} characters, this one {length}");
        return Err(HttpRouterError::InvalidUrl(text));
    }
    if !pattern.is_empty() && !pattern.starts_with('/') {
        return Err(invalid(pattern, "it must begin with '/'"));
    }
    if pattern.chars().any(|char| char.is_ascii_control()) {
        return Err(invalid(pattern, "it holds a control character"));
    }
    if pattern.contains(['?', '#']) {
        return Err(invalid(pattern, "it is matched against the path alone, without a query"));
    }
    let mut names = Vec::new();
    for segment in split(pattern) {
        names.extend(parameter(pattern, segment)?);
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid(pattern, "two of its parameters have one name"));
    }
    Ok(())
}

/// The name of a segment that is a `:name`.
fn parameter<'a>(pattern: &str, segment: &'a str) -> Result<Option<&'a str>, HttpRouterError> {
    let named = segment.strip_prefix(':');
    let rest = named.unwrap_or(segment);
    if named == Some("") {
        return Err(invalid(pattern, "':' needs a name"));
    }
    if segment != "*" && rest.contains(['*', ':']) {
        return Err(invalid(pattern, "':name' and '*' stand for whole segments"));
    }
    if named.is_some_and(|name| name.contains('.')) {
        return Err(invalid(pattern, "the name of a parameter can't hold '.'"));
    }
    Ok(named)
}

fn invalid(pattern: &str, why: &str) -> HttpRouterError {
    let end = pattern.char_indices().nth(MAX_PATTERN).map_or(pattern.len(), |(at, _)| at);
    HttpRouterError::InvalidUrl(format!("the route {}: {why}", repr(&pattern[..end])))
}
