"""The URLs of the HTTP client, which addresses are public, and what a slightfile grants."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.errors import ConfigError
from capabilities.http_client import InvalidUrl, Refused
from capabilities.http_client.addresses import is_public
from capabilities.http_client.policy import Policy
from capabilities.http_client.proxies import Proxies
from capabilities.http_client.urls import Url, parse


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://example.com", Url("http", "example.com", 80, "/")),
        ("HTTPS://EXAMPLE.com:8443/A?b#c", Url("https", "example.com", 8443, "/A?b")),
        ("https://example.com.", Url("https", "example.com", 443, "/")),
        ("http://example.com:?q", Url("http", "example.com", 80, "/?q")),
        ("http://192.0.2.1/", Url("http", "192.0.2.1", 80, "/")),
        ("http://[2001:DB8:0::1]:80/", Url("http", "2001:db8::1", 80, "/")),
        # UTS 46: of other scripts, names become ASCII, and digits and dots those of ASCII.
        ("http://bücher.example/", Url("http", "xn--bcher-kva.example", 80, "/")),
        ("http://１２７。0.0.1/", Url("http", "127.0.0.1", 80, "/")),
        # What is encoded stays as it is, which signed URLs depend on; what can't stand in a URL is encoded.
        ("http://h/%7e/../%2F?a=%2B+%zz", Url("http", "h", 80, "/%7e/../%2F?a=%2B+%zz")),
        ("http://h/é?ü={}", Url("http", "h", 80, "/%C3%A9?%C3%BC=%7B%7D")),
        # RFC 7617 has this one.
        ("http://Aladdin:open%20sesame@h/", Url("http", "h", 80, "/", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
    ],
)
def test_a_url_is_taken_apart(text: str, url: Url) -> None:
    assert parse(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "http:/example.com",
        "http://", "http:///path", "http://:80/", "http://user@/", "http://h:0/", "http://h:65536/", "http://h:x/",
        "http://h:8 0/", "http://h:99999999999999999999/",
        # What two readers could take for two hosts.
        "http://a@b@c/", "http://a\\@b/", "http://a b/", "http://a\tb/", " http://a/", "http://a/\r\nX: y",
        "http://a/ b",        "http://a/\x00", "http://exa%6dple.com/", "http://a,b/", "http://[::1]x/", "http://[::1", "http://::1/",
        "http://[127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://[::1]@b]/",
        # Addresses as only some write them.
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://017700000001/", "http://0177.0.0.1/",
        "http://127.1/", "http://127.0.1/", "http://127.0.0.01/", "http://127.0.0.256/", "http://0x/", "http://1.2.3.4.5/",
        "http://a..b/", "http://.a/", "http://a../", "http://-a/", f"http://{'a' * 64}.b/", f"http://{'a.' * 127}b/",
        f"http://a/{'a' * 8_190}",
    ],
)  # fmt: skip
def test_what_is_no_url_of_http_is_refused(text: str) -> None:
    with pytest.raises(InvalidUrl):
        parse(text)


@given(st.text(alphabet="htps:/@[]\\.#?%0127ax é１。-\r\n", max_size=40).map(lambda rest: f"http://{rest}"))
def test_whatever_is_taken_has_one_host_and_no_line_end(text: str) -> None:
    try:
        url = parse(text)
    except InvalidUrl:
        return
    assert url.host.isascii()
    assert not set(url.host) & set("/@\\%[]# \r\n")
    assert url.target.isascii()
    assert not set(url.target) & set(" \r\n#")
    again = parse(url.origin + url.target)
    assert (again.scheme, again.host, again.port, again.target) == (url.scheme, url.host, url.port, url.target)


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("x", "http://h/a/x"), ("/x y", "http://h/x%20y"), ("?x", "http://h/a/b?x"), ("//o/x", "http://o/x"),
        ("https://u:p@o:1/", "https://o:1/"), ("#f", "http://h/a/b?c"),
    ],
)  # fmt: skip
def test_a_redirect_is_relative_to_its_request(reference: str, target: str) -> None:
    url = parse("http://u:p@h/a/b?c").join(reference)
    assert url.origin + url.target == target
    assert url.authorization is None


@pytest.mark.parametrize("reference", ["ftp://h/", "javascript:alert(1)", "http://[", "\\\\o", "http://127.1/"])
def test_a_redirect_to_no_url_is_refused(reference: str) -> None:
    with pytest.raises(InvalidUrl):
        parse("http://h/").join(reference)


PUBLIC = "8.8.8.8 1.1.1.1 172.15.0.1 172.32.0.1 192.169.0.1 100.63.0.1 100.128.0.1 169.253.0.1 223.255.255.255 \
2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1"

NOT_PUBLIC = "0.0.0.0 0.1.2.3 10.1.2.3 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 172.31.255.255 192.168.0.1 \
100.64.0.1 100.100.100.200 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 \
239.255.255.255 240.0.0.1 255.255.255.255 \
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:7f00:1 64:ff9b::7f00:1 \
64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a00:1:: 2001::1 2001:db8::1 3fff::1 fc00::1 fd00:ec2::254 fe80::1 \
fec0::1 ff02::1 ff0e::1 100::1 5f00::1"


@pytest.mark.parametrize("address", PUBLIC.split())
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_of_this_machine_its_network_and_its_cloud_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.one_of(st.ip_addresses(), *(st.ip_addresses(network=str(each)) for each in (ip_network("2000::/3"),))))
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    embedding = isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour)
    if not embedding and (address.is_private or address.is_multicast):
        assert not is_public(address)


def policy(**configs: str) -> Policy:
    return Policy.from_configs(configs)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("*", "http://example.com:81/"),
        ("example.com", "http://EXAMPLE.com./"),
        ("example.com", "https://example.com:8443/"),
        ("Example.COM:8443", "https://example.com:8443/"),
        ("a.example, b.example", "https://b.example"),
        ("*.example.com", "https://a.b.example.com"),
        ("bücher.example", "https://xn--bcher-kva.example"),
        ("*:443", "https://anything.example"),
        ("8.8.8.8", "http://8.8.8.8"),
        ("[2606:4700:0::1111]:80", "http://[2606:4700::1111]"),
        # A host that isn't public, written out.
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]", "http://[::1]:8080"),
    ],
)
def test_a_host_is_granted(hosts: str, url: str) -> None:
    policy(ALLOW_HOSTS=hosts).check(parse(url))


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("example.com", "http://www.example.com"),
        ("example.com", "http://badexample.com"),
        ("example.com", "http://example.com.evil.example"),
        ("example.com:8443", "https://example.com"),
        ("*.example.com", "https://example.com"),
        ("*.example.com", "https://badexample.com"),
        ("*:443", "http://example.com"),
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("127.0.0.1", "http://127.0.0.2"),
        ("*", "http://127.0.0.1"),
        ("*:8080", "http://127.0.0.1:8080"),
        ("*", "http://[::ffff:169.254.169.254]"),
    ],
)
def test_a_host_is_not_granted(hosts: str, url: str) -> None:
    with pytest.raises(Refused):
        policy(ALLOW_HOSTS=hosts).check(parse(url))


def test_a_scheme_that_is_not_granted_is_refused_with_the_line_to_add() -> None:
    with pytest.raises(Refused) as refused:
        policy(ALLOW_SCHEMES="https").check(parse("http://u:secret@example.com/path?token=secret"))
    assert refused.value.notice == (
        "http-client: the module asked for http://example.com, by http, which the slightfile does not grant; add to "
        'the [capability.configs] of the capability with resource = "http-client": ALLOW_SCHEMES = "https, http"'
    )


@pytest.mark.parametrize(
    ("configs", "host", "address", "permitted"),
    [
        ({}, "example.com", "8.8.8.8", True),
        ({}, "example.com", "10.0.0.1", False),
        ({}, "localhost", "127.0.0.1", False),
        ({"ALLOW_HOSTS": "example.com"}, "example.com", "10.0.0.1", False),
        ({"ALLOW_PRIVATE": "10.0.0.0/8"}, "example.com", "10.0.0.1", True),
        ({"ALLOW_PRIVATE": "10.0.0.0/8"}, "example.com", "::ffff:10.0.0.1", True),
        ({"ALLOW_PRIVATE": "10.0.0.0/8"}, "example.com", "64:ff9b::a00:1", False),
        ({"ALLOW_PRIVATE": "10.0.0.0/8"}, "example.com", "169.254.169.254", False),
        ({"ALLOW_PRIVATE": "fd00::/8"}, "example.com", "fd00::1", True),
        # A name of this machine's own may be what it always is, where it is written out.
        ({"ALLOW_HOSTS": "localhost:80"}, "localhost", "127.0.0.1", True),
        ({"ALLOW_HOSTS": "localhost:80"}, "localhost", "::1", True),
        ({"ALLOW_HOSTS": "localhost:80"}, "localhost", "10.0.0.1", False),
        ({"ALLOW_HOSTS": "localhost:81"}, "localhost", "127.0.0.1", False),
        ({"ALLOW_HOSTS": "localhost, *"}, "example.com", "127.0.0.1", False),
        ({"ALLOW_HOSTS": "127.0.0.1, *"}, "example.com", "127.0.0.1", False),
        ({"ALLOW_HOSTS": "*"}, "localhost", "127.0.0.1", False),
    ],
)
def test_an_address_of_a_name_is_permitted_where_it_is_granted(
    configs: dict[str, str], host: str, address: str, permitted: bool
) -> None:
    given = Policy.from_configs(configs)
    assert given.permits(host, 80, ip_address(address)) is permitted
    if permitted:
        assert given.may_be_opened(ip_address(address))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ALLOW_HOSTS", ""), ("ALLOW_HOSTS", "a,,b"), ("ALLOW_HOSTS", "https://secret.example"), ("ALLOW_HOSTS", "a.*"),
        ("ALLOW_HOSTS", "a:b"), ("ALLOW_HOSTS", "a:0"), ("ALLOW_HOSTS", "::1"), ("ALLOW_HOSTS", "*.127.0.0.1.1"),
        ("ALLOW_HOSTS", "a/b"), ("ALLOW_HOSTS", "a b"), ("ALLOW_HOSTS", "**"), ("ALLOW_HOSTS", "10.0.0.0/8"),
        ("ALLOW_SCHEMES", ""), ("ALLOW_SCHEMES", "HTTPS"), ("ALLOW_SCHEMES", "ftp"),
        ("ALLOW_PRIVATE", ""), ("ALLOW_PRIVATE", "true"), ("ALLOW_PRIVATE", "*"), ("ALLOW_PRIVATE", "10.0.0.1/8"),
        ("TIMEOUT_SECONDS", "0"), ("TIMEOUT_SECONDS", "1.5"), ("TIMEOUT_SECONDS", "3601"), ("TIMEOUT_SECONDS", ""),
        ("MAX_RESPONSE_MIB", "-1"), ("MAX_RESPONSE_MIB", "129"), ("MAX_RESPONSE_MIB", "ten"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_an_error_that_names_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        policy(**{key: value})
    assert error.value.key == key
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("", "http://example.com", True), ("*", "http://example.com", False),
        ("example.com", "http://example.com", False),
        ("example.com", "http://www.example.com", False), (".example.com", "http://www.example.com", False),
        ("*.example.com", "http://www.example.com", False), ("example.com", "http://badexample.com", True),
        ("a, EXAMPLE.com:8080", "http://example.com:8080", False), ("example.com:8080", "http://example.com", True),
        ("10.0.0.0/8", "http://10.1.2.3", False), ("10.0.0.0/8", "http://11.1.2.3", True),
        ("::1", "http://[::1]", False),
        ("127.0.0.1", "http://127.0.0.1:80", False), ("10.0.0.0/8", "http://example.com", True),
    ],
)  # fmt: skip
def test_no_proxy_names_what_is_reached_without_one(no_proxy: str, url: str, proxied: bool) -> None:
    proxies = Proxies({"HTTP_PROXY": "http://127.0.0.1:3128", "NO_PROXY": no_proxy})
    assert (proxies.of(parse(url)) is not None) is proxied


def test_each_scheme_has_its_proxy_and_lower_case_comes_first() -> None:
    environment = {"HTTP_PROXY": "127.0.0.1:1", "http_proxy": "127.0.0.1:2", "HTTPS_PROXY": "http://u:p@[::1]:3"}
    proxies = Proxies(environment)
    found = [proxies.of(parse(f"{scheme}://example.com")) for scheme in ("http", "https")]
    assert [str(each.url) for each in found if each] == ["http://127.0.0.1:2", "http://u:p@[::1]:3"]
    assert Proxies({"HTTPS_PROXY": "http://p"}).of(parse("http://example.com")) is None


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "http://", "http://u:secret@h:port", "://"])
def test_a_proxy_that_can_not_be_used_is_an_error_without_its_password(value: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as error:
        Proxies({"HTTPS_PROXY": value})
    assert "secret" not in str(error.value)
