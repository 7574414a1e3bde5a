//! Routes: the cases of tests/capabilities/test_http_routes.py.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::bindings::http_types::HttpRouterError;
use crate::capabilities::http::matcher::{Found, Match, Matcher, Unmatched};
use crate::capabilities::http::routes::{MAX_PATTERN, MAX_ROUTES, MAX_SEGMENTS, RouteMethod, RouteTable};

fn method(name: &str) -> RouteMethod {
    RouteMethod::ALL.into_iter().find(|method| method.name() == name).unwrap()
}

/// Each route is `METHOD PATTERN`, and its handler has the same name.
fn table_below(base: &str, routes: &[&str]) -> RouteTable {
    let mut table = RouteTable::with_base(base).unwrap();
    for route in routes {
        let (name, pattern) = route.split_once(' ').unwrap();
        table = table.add(method(name), pattern, route).unwrap();
    }
    table
}

fn find(table: &RouteTable, name: &str, path: &str) -> Found {
    Matcher::new(table).find(Some(method(name)), path).unwrap()
}

fn handler(routes: &[&str], path: &str) -> String {
    match find(&table_below("", routes), "GET", path) {
        Found::Match(found) => found.handler.to_string(),
        other => panic!("{path}: {other:?}"),
    }
}

fn params_in(table: &RouteTable, path: &str) -> Vec<(String, String)> {
    match find(table, "GET", path) {
        Found::Match(found) => found.params,
        other => panic!("{path}: {other:?}"),
    }
}

fn params(route: &str, path: &str) -> Vec<(String, String)> {
    params_in(&table_below("", &[route]), path)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn misses(routes: &[&str], path: &str) -> bool {
    find(&table_below("", routes), "GET", path) == Found::NotFound
}

#[test]
fn a_slash_at_the_end_makes_no_difference() {
    for route in ["GET /a/b", "GET /a/b/"] {
        for path in ["/a/b", "/a/b/"] {
            assert_eq!(handler(&[route], path), route);
        }
    }
}

#[test]
fn the_root_is_the_empty_route_too() {
    for route in ["GET ", "GET /"] {
        assert_eq!(handler(&[route], "/"), route);
        assert!(misses(&[route], "//"));
    }
}

#[test]
fn an_empty_segment_is_a_segment() {
    assert_eq!(handler(&["GET /a//"], "/a//"), "GET /a//");
    assert!(misses(&["GET /a//"], "/a/"));
    assert!(misses(&["GET //"], "/"));
    assert!(misses(&["GET /a/b"], "/a//b"));
}

#[test]
fn a_parameter_takes_one_segment_and_hands_it_over_decoded() {
    let route = "GET /person/:name/age";
    assert_eq!(params(route, "/person/Zo%C3%AB/age"), pairs(&[("name", "Zoë")]));
    for path in ["/person//age", "/person/a/b/age", "/person"] {
        assert!(misses(&[route], path), "{path}");
    }
}

#[test]
fn an_escaped_slash_stays_inside_its_segment() {
    assert_eq!(params("GET /file/:name", "/file/a%2Fb"), pairs(&[("name", "a/b")]));
    assert!(misses(&["GET /a/b"], "/a%2Fb"));
}

#[test]
fn a_star_takes_one_or_more_segments_and_hands_them_over_under_its_name() {
    assert_eq!(params("GET /files/*", "/files/a"), pairs(&[("*", "a")]));
    assert_eq!(params("GET /files/*", "/files/a/b%20c/"), pairs(&[("*", "a/b c")]));
    assert!(misses(&["GET /files/*"], "/files"));
    assert!(misses(&["GET /files/*"], "/files/"));
}

#[test]
fn a_star_inside_a_route_takes_no_more_than_it_must() {
    let table = table_below("", &["GET /*/of/*", "GET /x/*/end"]);
    assert_eq!(params_in(&table, "/a/b/of/c/of/d"), pairs(&[("*", "a/b"), ("*", "c/of/d")]));
    assert_eq!(params_in(&table, "/x/1/end/2/end"), pairs(&[("*", "1/end/2")]));
}

#[test]
fn a_literal_beats_a_parameter_and_a_parameter_beats_a_star() {
    let routes = ["GET /*", "GET /:a", "GET /a", "GET /*/b", "GET /:a/b", "GET /a/b"];
    for (path, expected) in [
        ("/a", "GET /a"),
        ("/x", "GET /:a"),
        ("/x/y", "GET /*"),
        ("/a/b", "GET /a/b"),
        ("/x/b", "GET /:a/b"),
        ("/x/y/b", "GET /*/b"),
    ] {
        assert_eq!(handler(&routes, path), expected);
    }
}

#[test]
fn a_literal_that_leads_nowhere_does_not_hide_a_parameter() {
    assert_eq!(params_in(&table_below("", &["GET /a/x", "GET /:p/y"]), "/a/y"), pairs(&[("p", "a")]));
}

#[test]
fn of_two_routes_of_one_form_the_first_answers() {
    let table = RouteTable::default().add(RouteMethod::Get, "/a/:x", "first").unwrap();
    let table = table.add(RouteMethod::Get, "/a/:y/", "second").unwrap();
    let first = Match { handler: "first".into(), params: pairs(&[("x", "1")]) };
    assert_eq!(find(&table, "GET", "/a/1"), Found::Match(first));
    let table = RouteTable::default().add(RouteMethod::Get, "/a", "first").unwrap();
    let table = table.add(RouteMethod::Get, "/a/", "second").unwrap();
    assert_eq!(find(&table, "GET", "/a/"), Found::Match(Match { handler: "first".into(), params: Vec::new() }));
}

#[test]
fn the_better_route_of_another_method_does_not_hide_one_of_this_method() {
    assert_eq!(handler(&["PUT /a", "GET /:name"], "/a"), "GET /:name");
}

#[test]
fn another_method_is_told_which_ones_there_are() {
    let table = table_below("", &["GET /a", "DELETE /:x"]);
    let allowed = "GET, HEAD, DELETE, OPTIONS".to_string();
    assert_eq!(find(&table, "POST", "/a"), Found::MethodNotAllowed(allowed));
    let others = Matcher::new(&table).find(None, "/b");
    assert_eq!(others, Ok(Found::MethodNotAllowed("DELETE, OPTIONS".to_string())));
}

#[test]
fn a_route_is_plain_text_that_escapes_in_a_path_can_spell() {
    assert_eq!(handler(&["GET /café"], "/caf%C3%A9"), "GET /café");
    assert_eq!(handler(&["GET /a b"], "/%61%20b"), "GET /a b");
    assert!(misses(&["GET /a%20b"], "/a%20b"));
    assert_eq!(handler(&["GET /a%20b"], "/a%2520b"), "GET /a%20b");
}

#[test]
fn what_looks_like_an_escape_and_is_none_is_itself() {
    assert_eq!(params("GET /:a", "/%zz%4"), pairs(&[("a", "%zz%4")]));
}

#[test]
fn a_segment_that_is_not_utf_8_is_an_error() {
    let matcher = Matcher::new(&table_below("", &["GET /*"]));
    for path in ["/%ff", "/a/%c3", "/%ED%A0%80"] {
        assert_eq!(matcher.find(Some(RouteMethod::Get), path), Err(Unmatched::NotUtf8), "{path}");
    }
}

#[test]
fn routes_begin_with_the_base_of_their_router() {
    let table = table_below("/api/v1/", &["GET /:id", "GET "]);
    assert_eq!(params_in(&table, "/api/v1/7"), pairs(&[("id", "7")]));
    assert_eq!(params_in(&table, "/api/v1"), pairs(&[]));
    assert_eq!(find(&table, "GET", "/7"), Found::NotFound);
}

#[test]
fn a_base_may_have_parameters() {
    let table = table_below("/:a", &["GET /b/:c"]);
    assert_eq!(params_in(&table, "/1/b/2"), pairs(&[("a", "1"), ("c", "2")]));
}

#[test]
fn adding_a_route_leaves_the_old_table_as_it_was() {
    let old = table_below("", &["GET /a"]);
    let new = old.add(RouteMethod::Get, "/b", "b").unwrap();
    assert_eq!(find(&old, "GET", "/b"), Found::NotFound);
    let patterns: Vec<_> = new.routes().iter().map(|route| route.pattern.clone()).collect();
    assert_eq!(patterns, ["/a", "/b"]);
}

fn refusal(table: &RouteTable, route: &str) -> String {
    match table.add(RouteMethod::Get, route, "h") {
        Err(HttpRouterError::InvalidUrl(text)) => text,
        other => panic!("{route:?}: {other:?}"),
    }
}

#[test]
fn a_route_that_makes_no_sense_is_refused() {
    let long = format!("/{}", "a".repeat(MAX_PATTERN));
    for (route, word) in [
        ("a", "begin"),
        ("http://x/a", "begin"),
        ("/:", "needs a name"),
        ("/a/:/b", "needs a name"),
        ("/:a/:a", "one name"),
        ("/a:b", "whole segments"),
        ("/:a:b", "whole segments"),
        ("/**", "whole segments"),
        ("/a*", "whole segments"),
        ("/:*", "whole segments"),
        ("/:name.json", "'.'"),
        ("/a\nb", "control character"),
        ("/a\0", "control character"),
        ("/\x7f", "control character"),
        ("/a?b=:c", "query"),
        ("/a#b", "query"),
        (&long, "characters"),
    ] {
        let text = refusal(&RouteTable::default(), route);
        assert!(text.contains(word), "{route:?}: {text}");
        assert!(!text.contains('\n'));
    }
    // As `capabilities.http.routes` of Python words them.
    assert_eq!(refusal(&RouteTable::default(), "/:"), "the route '/:': ':' needs a name");
    assert_eq!(refusal(&RouteTable::default(), &long), "a route has up to 2000 characters, this one 2001");
}

#[test]
fn a_base_that_makes_no_sense_is_refused() {
    for base in ["api", "http://localhost/api", "/:", "/a?b", "/\n"] {
        assert!(matches!(RouteTable::with_base(base), Err(HttpRouterError::InvalidUrl(_))), "{base:?}");
    }
    refusal(&table_below("/:a", &[]), "/:a");
}

#[test]
fn a_table_holds_a_bounded_number_of_routes_and_its_end_takes_no_stack() {
    let mut table = RouteTable::default();
    for number in 0..MAX_ROUTES {
        table = table.add(RouteMethod::Get, &format!("/{number}"), "h").unwrap();
    }
    let full = table.add(RouteMethod::Get, "/more", "h");
    assert!(matches!(full, Err(HttpRouterError::UnexpectedError(text)) if text == "a router holds up to 1000 routes"));
    assert!(matches!(find(&table, "GET", &format!("/{}", MAX_ROUTES - 1)), Found::Match(_)));
}

#[test]
fn the_routes_of_a_table_have_a_bounded_number_of_segments() {
    let mut table = RouteTable::default();
    let route = "/a".repeat(1000);
    for _ in 0..MAX_SEGMENTS / 1000 {
        table = table.add(RouteMethod::Get, &route, "h").unwrap();
    }
    let full = table.add(RouteMethod::Get, "/a", "h");
    assert!(matches!(full, Err(HttpRouterError::UnexpectedError(text)) if text.contains("10000 segments")));
}

#[test]
fn a_path_made_to_backtrack_is_answered_soon() {
    let table = table_below("", &[&format!("GET {}/b", "/*/a".repeat(20))]);
    let began = std::time::Instant::now();
    assert_eq!(find(&table, "GET", &"/a".repeat(4000)), Found::NotFound);
    assert!(began.elapsed().as_secs() < 5);
}

// The model: every way in which each pattern can match, the best of them found by comparing them all.

fn parts_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix('/').unwrap();
    if inside.is_empty() {
        return Vec::new();
    }
    inside.strip_suffix('/').unwrap_or(inside).split('/').map(String::from).collect()
}

fn decoded(part: &str) -> String {
    part.replace("%61", "a").replace("%C3%A9", "é").replace("%20", " ").replace("%2F", "/").replace("%25", "%")
}

/// Every way in which the segments can be dealt out to the parts of a pattern: how many each part takes.
fn ways(parts: &[String], segments: &[String]) -> Vec<Vec<usize>> {
    let Some((part, others)) = parts.split_first() else {
        return if segments.is_empty() { [Vec::new()].into() } else { Vec::new() };
    };
    let fits = segments.first().is_some_and(|first| first == part || (part.starts_with(':') && !first.is_empty()));
    let most = if part == "*" { segments.len() } else { usize::from(fits) };
    (1..=most)
        .flat_map(|size| ways(others, &segments[size..]).into_iter().map(move |rest| [&[size][..], &rest].concat()))
        .collect()
}

/// For each segment: 0 a literal, 1 a parameter, 2 the first of a star, 3 a further one.
fn rank(parts: &[String], way: &[usize]) -> Vec<u8> {
    let of_part = |(part, size): (&String, &usize)| {
        let first = if part == "*" { 2 } else { u8::from(part.starts_with(':')) };
        let mut ranks = alloc::vec![3; *size];
        ranks[0] = first;
        ranks
    };
    parts.iter().zip(way).flat_map(of_part).collect()
}

fn model(patterns: &[String], path: &str) -> Option<(usize, Vec<(String, String)>)> {
    let segments: Vec<String> = parts_of(path).iter().map(|part| decoded(part)).collect();
    let mut found = Vec::new();
    for (number, pattern) in patterns.iter().enumerate() {
        let parts = parts_of(pattern);
        for way in ways(&parts, &segments) {
            let mut at = 0;
            let mut params = Vec::new();
            for (part, size) in parts.iter().zip(&way) {
                if part == "*" || part.starts_with(':') {
                    let name = part.strip_prefix(':').unwrap_or(part);
                    params.push((name.to_string(), segments[at..at + size].join("/")));
                }
                at += size;
            }
            found.push((rank(&parts, &way), number, params));
        }
    }
    found.into_iter().min().map(|(_, number, params)| (number, params))
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(alloc::vec!["a", "b", ":x", ":y", "*", "é", "a%20b", "c d", ""]);
    prop::collection::vec(segment, 0..5)
        .prop_filter("one name twice", |parts| {
            [":x", ":y"].iter().all(|name| parts.iter().filter(|part| *part == name).count() < 2)
        })
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn path() -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(alloc::vec!["a", "b", "c", "%61", "%C3%A9", "a%20b", "a%2520b", "c%20d", "a%2Fb", ""]);
    prop::collection::vec(piece, 0..7).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_matcher_agrees_with_a_naive_model(patterns in prop::collection::vec(pattern(), 1..6), path in path()) {
        let mut table = RouteTable::default();
        for (number, pattern) in patterns.iter().enumerate() {
            table = table.add(RouteMethod::Get, pattern, &number.to_string()).unwrap();
        }
        let expected = match model(&patterns, &path) {
            None => Found::NotFound,
            Some((number, params)) => Found::Match(Match { handler: number.to_string().into(), params }),
        };
        prop_assert_eq!(find(&table, "GET", &path), expected);
    }

    #[test]
    fn any_text_is_a_route_or_an_error(text in ".{0,30}") {
        let _ = RouteTable::default().add(RouteMethod::Get, &text, "h");
    }
}

#[test]
fn the_model_finds_matches_and_misses() {
    let patterns = ["/a/:x".to_string(), "/*/b".to_string()];
    assert_eq!(model(&patterns, "/b/a"), None);
    assert_eq!(model(&patterns, "/a/c"), Some((0, pairs(&[("x", "c")]))));
    assert_eq!(model(&patterns, "/c/b"), Some((1, pairs(&[("*", "c")]))));
}
