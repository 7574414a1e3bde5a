"""Routes against what their documentation says, and against a naive model."""

from __future__ import annotations

import asyncio
import re
import time
import tracemalloc
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err
from capabilities.bindings.http_types import HttpRouterErrorInvalidUrl, HttpRouterErrorUnexpectedError, Response
from capabilities.http.routes import MAX_PATTERN, MAX_ROUTES, Found, Match, MethodNotAllowed, NotFound, RouteTable
from tests import http_serving
from tests.http_serving import Functions, answering, python_and_machine

LETTERS = "befghns"
"""Names of handlers that booted machines have."""


def table(*routes: str, base: str = "") -> RouteTable:
    """Each route is `METHOD PATTERN`, and its handler has the same name."""
    result = RouteTable.with_base(base)
    for route in routes:
        method, _, pattern = route.partition(" ")
        result = result.add(method, pattern, route)
    return result


def find(routes: RouteTable, path: str, method: str = "GET") -> Found:
    """What the matcher finds, or what a booted machine that serves these routes says of it. Raises ValueError for a
    path that is not UTF-8."""
    if http_serving.server == "python":
        return routes.compile().match(method, path)
    return asyncio.run(ask(routes, path, method))


async def ask(routes: RouteTable, path: str, method: str) -> Found:
    handlers = list(dict.fromkeys(route.handler for route in routes.routes))
    letters = dict(zip(handlers, LETTERS, strict=False))
    functions = Functions(**{letter: answering(Response(200, None, letter.encode())) for letter in letters.values()})
    served = [
        (route.method, route.pattern.removeprefix(routes.base), letters[route.handler]) for route in routes.routes
    ]
    request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with http_serving.serving(functions, *served, base=routes.base) as server:
        head, _, body = (await server.raw(request.encode(errors="surrogateescape"))).partition(b"\r\n\r\n")
    match int(head.split()[1]):
        case 200:
            seen = server.seen
            letter = body.decode() or letters[handlers[0]]  # HEAD has no body
            return Match(handlers[LETTERS.index(letter)], tuple(seen.params))
        case 404:
            return NotFound()
        case 400:
            raise ValueError("not utf-8")
        case status:
            assert status in (204, 405)
            allowed = re.search(r"^Allow: (.*)\r$", head.decode() + "\r\n", re.MULTILINE)
            assert allowed is not None
            return MethodNotAllowed(tuple(allowed[1].split(", ")))


def match(routes: RouteTable, path: str, method: str = "GET") -> Match:
    found = find(routes, path, method)
    assert isinstance(found, Match), found
    return found


def misses(routes: RouteTable, path: str, method: str = "GET") -> bool:
    return isinstance(find(routes, path, method), NotFound)


@python_and_machine
@pytest.mark.parametrize("route", ["/a/b", "/a/b/"])
@pytest.mark.parametrize("path", ["/a/b", "/a/b/"])
def test_a_slash_at_the_end_makes_no_difference(route: str, path: str) -> None:
    assert match(table(f"GET {route}"), path) == (f"GET {route}", ())


@python_and_machine
@pytest.mark.parametrize("route", ["", "/"])
def test_the_root_is_the_empty_route_too(route: str) -> None:
    assert match(table(f"GET {route}"), "/").params == ()
    assert misses(table(f"GET {route}"), "//")


@python_and_machine
def test_an_empty_segment_is_a_segment() -> None:
    assert match(table("GET /a//"), "/a//").handler == "GET /a//"
    assert misses(table("GET /a//"), "/a/")
    assert misses(table("GET //"), "/")
    assert misses(table("GET /a/b"), "/a//b")


@python_and_machine
def test_a_parameter_takes_one_segment_and_hands_it_over_decoded() -> None:
    routes = table("GET /person/:name/age")
    assert match(routes, "/person/Zo%C3%AB/age").params == (("name", "Zoë"),)
    assert misses(routes, "/person//age")
    assert misses(routes, "/person/a/b/age")
    assert misses(routes, "/person")


@python_and_machine
def test_an_escaped_slash_stays_inside_its_segment() -> None:
    assert match(table("GET /file/:name"), "/file/a%2Fb").params == (("name", "a/b"),)
    assert misses(table("GET /a/b"), "/a%2Fb")


@python_and_machine
def test_a_star_takes_one_or_more_segments_and_hands_them_over_under_its_name() -> None:
    routes = table("GET /files/*")
    assert match(routes, "/files/a").params == (("*", "a"),)
    assert match(routes, "/files/a/b%20c/").params == (("*", "a/b c"),)
    assert misses(routes, "/files")
    assert misses(routes, "/files/")


@python_and_machine
def test_a_star_inside_a_route_takes_no_more_than_it_must() -> None:
    routes = table("GET /*/of/*", "GET /x/*/end")
    assert match(routes, "/a/b/of/c/of/d").params == (("*", "a/b"), ("*", "c/of/d"))
    assert match(routes, "/x/1/end/2/end").params == (("*", "1/end/2"),)


@python_and_machine
def test_a_literal_beats_a_parameter_and_a_parameter_beats_a_star() -> None:
    routes = table("GET /*", "GET /:a", "GET /a", "GET /*/b", "GET /:a/b", "GET /a/b")
    assert match(routes, "/a").handler == "GET /a"
    assert match(routes, "/x").handler == "GET /:a"
    assert match(routes, "/x/y").handler == "GET /*"
    assert match(routes, "/a/b").handler == "GET /a/b"
    assert match(routes, "/x/b").handler == "GET /:a/b"
    assert match(routes, "/x/y/b").handler == "GET /*/b"


@python_and_machine
def test_a_literal_that_leads_nowhere_does_not_hide_a_parameter() -> None:
    assert match(table("GET /a/x", "GET /:p/y"), "/a/y").params == (("p", "a"),)


@python_and_machine
def test_of_two_routes_of_one_form_the_first_answers() -> None:
    routes = RouteTable().add("GET", "/a/:x", "first").add("GET", "/a/:y/", "second")
    assert match(routes, "/a/1") == ("first", (("x", "1"),))
    plain = RouteTable().add("GET", "/a", "first").add("GET", "/a/", "second")
    assert match(plain, "/a/").handler == "first"


@python_and_machine
def test_the_better_route_of_another_method_does_not_hide_one_of_this_method() -> None:
    routes = table("PUT /a", "GET /:name")
    assert match(routes, "/a").handler == "GET /:name"


@python_and_machine
def test_get_answers_head_too() -> None:
    assert match(table("GET /a"), "/a", "HEAD").handler == "GET /a"


@python_and_machine
def test_another_method_is_told_which_ones_there_are() -> None:
    routes = table("GET /a", "DELETE /:x")
    assert find(routes, "/a", "POST") == MethodNotAllowed(("GET", "HEAD", "DELETE", "OPTIONS"))
    assert find(routes, "/b", "OPTIONS") == MethodNotAllowed(("DELETE", "OPTIONS"))


@python_and_machine
def test_a_route_is_plain_text_that_escapes_in_a_path_can_spell() -> None:
    assert match(table("GET /café"), "/caf%C3%A9").handler == "GET /café"
    assert match(table("GET /a b"), "/%61%20b").handler == "GET /a b"
    assert misses(table("GET /a%20b"), "/a%20b")
    assert match(table("GET /a%20b"), "/a%2520b").handler == "GET /a%20b"


@python_and_machine
def test_what_looks_like_an_escape_and_is_none_is_itself() -> None:
    assert match(table("GET /:a"), "/%zz%4").params == (("a", "%zz%4"),)


@python_and_machine
@pytest.mark.parametrize("path", ["/%ff", "/a/%c3", "/%ED%A0%80", "/\udcff%41"])
def test_a_segment_that_is_not_utf_8_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        find(table("GET /*"), path)


@python_and_machine
def test_routes_begin_with_the_base_of_their_router() -> None:
    routes = table("GET /:id", "GET ", base="/api/v1/")
    assert match(routes, "/api/v1/7").params == (("id", "7"),)
    assert match(routes, "/api/v1").handler == "GET "
    assert misses(routes, "/7")


@python_and_machine
def test_a_base_may_have_parameters() -> None:
    assert match(table("GET /b/:c", base="/:a"), "/1/b/2").params == (("a", "1"), ("c", "2"))


def test_adding_a_route_leaves_the_old_table_as_it_was() -> None:
    old = table("GET /a")
    new = old.add("GET", "/b", "b")
    assert misses(old, "/b")
    assert match(new, "/a").handler == "GET /a"
    assert [route.pattern for route in new.routes] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("route", "word"),
    [
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
        ("/" + "a" * MAX_PATTERN, "characters"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(route: str, word: str) -> None:
    with pytest.raises(Err) as caught:
        RouteTable().add("GET", route, "h")
    assert isinstance(caught.value.value, HttpRouterErrorInvalidUrl)
    assert word in caught.value.value.value
    assert "\n" not in caught.value.value.value


@pytest.mark.parametrize("base", ["api", "http://localhost/api", "/:", "/a?b", "/\n"])
def test_a_base_that_makes_no_sense_is_refused(base: str) -> None:
    with pytest.raises(Err) as caught:
        RouteTable.with_base(base)
    assert isinstance(caught.value.value, HttpRouterErrorInvalidUrl)


def test_one_name_in_base_and_route_is_refused() -> None:
    with pytest.raises(Err):
        RouteTable.with_base("/:a").add("GET", "/:a", "h")


@python_and_machine
def test_a_table_holds_a_bounded_number_of_routes() -> None:
    routes = RouteTable()
    for number in range(MAX_ROUTES):
        routes = routes.add("GET", f"/{number}", "h")
    with pytest.raises(Err) as caught:
        routes.add("GET", "/more", "h")
    assert isinstance(caught.value.value, HttpRouterErrorUnexpectedError)
    assert match(routes, f"/{MAX_ROUTES - 1}").handler == "h"


def test_every_table_on_the_way_to_a_long_one_is_small() -> None:
    """A guest can keep a handle of each, tens of thousands of them."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = [RouteTable()]
    for _ in range(MAX_ROUTES):
        kept.append(kept[-1].add("GET", "/a", "h"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < MAX_ROUTES * 500


def test_json_gives_the_table_again() -> None:
    routes = table("GET /a", "PUT /b/:c", "POST /*", "DELETE ", base="/ü/:x/")
    again = RouteTable.from_json(routes.to_json())
    assert again.routes == routes.routes
    assert again.base == "/ü/:x"
    assert match(again.add("GET", "/more", "h"), "/%C3%BC/1/more").params == (("x", "1"),)


def test_a_path_made_to_backtrack_is_answered_soon() -> None:
    routes = table("GET " + "/*/a" * 20 + "/b").compile()
    began = time.perf_counter()
    assert isinstance(routes.match("GET", "/a" * 4000), NotFound)
    assert time.perf_counter() - began < 2


# The model: every way in which each pattern can match, the best of them found by comparing them all.

segment = st.sampled_from(["a", "b", ":x", ":y", "*", "é", "a%20b", "c d", ""])
pattern = (
    st.lists(segment, max_size=4)
    .map(lambda parts: "/" + "/".join(parts))
    .filter(lambda text: all(text.split("/").count(name) < 2 for name in (":x", ":y")))
)
piece = st.sampled_from(["a", "b", "c", "%61", "%C3%A9", "a%20b", "a%2520b", "c%20d", "a%2Fb", ""])
target = st.lists(piece, max_size=6).map(lambda parts: "/" + "/".join(parts))


def decode(part: str) -> str:
    escapes = {"%61": "a", "%C3%A9": "é", "%20": " ", "%25": "%", "%2F": "/"}
    return re.sub("%[0-9A-F]{2}(?:%A9)?", lambda found: escapes[found[0]], part)


def parts_of(path: str) -> list[str]:
    return [] if path == "/" else path[1:].removesuffix("/").split("/")


def ways(parts: list[str], segments: list[str]) -> list[list[tuple[str, ...]]]:
    """Every way in which the segments can be dealt out to the parts of a pattern."""
    if not parts:
        return [] if segments else [[]]
    if parts[0] == "*":
        sizes = range(1, len(segments) + 1)
    else:
        fits = bool(segments) and (segments[0] == parts[0] or (parts[0][:1] == ":" and segments[0] != ""))
        sizes = range(1, 2 if fits else 1)
    return [[tuple(segments[:size]), *rest] for size in sizes for rest in ways(parts[1:], segments[size:])]


def rank(parts: list[str], way: list[tuple[str, ...]]) -> list[int]:
    """For each segment: 0 a literal, 1 a parameter, 2 the first of a star, 3 a further one."""
    ranks = []
    for part, taken in zip(parts, way, strict=True):
        first = 2 if part == "*" else 1 if part[:1] == ":" else 0
        ranks += [first] + [3] * (len(taken) - 1)
    return ranks


def model(patterns: list[str], path: str) -> tuple[int, tuple[tuple[str, str], ...]] | None:
    segments = [decode(part) for part in parts_of(path)]
    found = []
    for number, text in enumerate(patterns):
        parts = parts_of(text)
        for way in ways(parts, segments):
            params = tuple(
                (part.removeprefix(":"), "/".join(taken))
                for part, taken in zip(parts, way, strict=True)
                if part == "*" or part[:1] == ":"
            )
            found.append((rank(parts, way), number, params))
    return min(found)[1:] if found else None


@settings(max_examples=400, deadline=None)
@given(st.lists(pattern, min_size=1, max_size=5), target)
def test_the_matcher_agrees_with_a_naive_model(patterns: list[str], path: str) -> None:
    routes = RouteTable()
    for number, text in enumerate(patterns):
        routes = routes.add("GET", text, str(number))
    found = routes.compile().match("GET", path)
    expected = model(patterns, path)
    if expected is None:
        assert isinstance(found, NotFound)
    else:
        assert found == Match(str(expected[0]), expected[1])


def test_the_model_finds_matches_and_misses() -> None:
    """So that the test above compares more than misses with misses."""
    paths = ["/" + "/".join(parts) for parts in product("abc", repeat=2)]
    found = [model(["/a/:x", "/*/b"], path) for path in paths]
    assert None in found
    assert (0, (("x", "c"),)) in found
    assert (1, (("*", "c"),)) in found


@given(st.text(max_size=30))
def test_any_text_is_a_route_or_an_error(text: str) -> None:
    try:
        routes = RouteTable().add("GET", text, "h")
    except Err:
        return
    assert RouteTable.from_json(routes.to_json()).routes == routes.routes
