"""The registry of families and resource types, and what installed packages add to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

from capabilities import custom, registry
from capabilities.blob.aws_s3 import S3Backend
from capabilities.blob.azblob import AzureBackend
from capabilities.blob.filesystem import FilesystemBackend as BlobFiles
from capabilities.configs.azapp import AppConfiguration
from capabilities.configs.envvars import EnvironmentConfigs
from capabilities.configs.memory import MemoryConfigs
from capabilities.configs.usersecrets import UserSecrets
from capabilities.http import cors
from capabilities.http_client import policy
from capabilities.http_client.client import HttpClient
from capabilities.keyvalue.azblob import AzureBlobBackend
from capabilities.keyvalue.dapr import DaprBackend
from capabilities.keyvalue.dynamodb import DynamoDbBackend
from capabilities.keyvalue.filesystem import FilesystemBackend
from capabilities.keyvalue.memory import MemoryStores
from capabilities.keyvalue.redis import RedisBackend
from capabilities.locking.etcd import EtcdBackend
from capabilities.locking.memory import MemoryLocks
from capabilities.messaging.azsbus import ServiceBusBackend
from capabilities.messaging.filesystem import FilesystemBackend as FilesystemMessages
from capabilities.messaging.kafka import KafkaBackend
from capabilities.messaging.memory import MemoryTopics
from capabilities.messaging.mosquitto import MosquittoBackend
from capabilities.messaging.nats import NatsBackend
from capabilities.registry import Family, RegistryError, ResourceType
from capabilities.sql.postgres import PostgresBackend
from capabilities.sql.sqlite import SqliteBackend
from slight_py.errors import UsageError
from slight_py.slightfile import embedded, load, suggest

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of one module, as pip would, for the length of a test."""

    def install(package: str, source: str, **entry_points: str) -> None:
        site = tmp_path / package
        metadata = site / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{package}.py").write_text(dedent(source))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{target}\n" for name, target in entry_points.items()]
        (metadata / "entry_points.txt").write_text("[slight_py.capabilities]\n" + "".join(lines))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return install


QUEUE_PACKAGE = """
    from capabilities.registry import Family, ResourceType

    QUEUE = Family("queue", {"work-queue": "queue_package"}, "queue_package:hosts", "queue.local", named=True)
    LOCAL = ResourceType("queue.local", "queue", load="queue_package:Local")
    REMOTE = ResourceType("queue.remote", "queue", required=("QUEUE_ADDRESS",), load="queue_package:Remote")

    class Local:
        pass
"""


@pytest.fixture
def _queue(install: Install) -> None:
    install("queue_package", QUEUE_PACKAGE, **{"queue.remote": "REMOTE", "queue": "QUEUE", "queue.local": "LOCAL"})


def test_loading_a_slightfile_of_built_in_types_imports_no_backend_and_no_package_metadata(tmp_path: Path) -> None:
    slightfile = tmp_path / "slightfile.toml"
    entries = "".join(
        f'[[capability]]\nresource = "{resource}"\nname = "{resource}"\nconfigs = {{ {configs} }}\n'
        for resource, configs in [
            ("keyvalue.memory", ""),
            ("keyvalue.filesystem", ""),
            ("keyvalue.redis", 'REDIS_ADDRESS = "redis://127.0.0.1:6379"'),
            ("http", ""),
            ("http-client", 'ALLOW_HOSTS = "example.com"'),
        ]
    )
    slightfile.write_text('specversion = "0.2"\n' + entries)
    program = f"""
import sys
from slight_py.slightfile import embedded, load
assert len(load({str(slightfile)!r}).grants) == 5
assert embedded().grants_for("keyvalue")
for name in sorted(sys.modules):
    print(name)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = run.stdout.split()
    assert "slight_py.slightfile" in imported
    assert [name for name in imported if name.startswith(("capabilities.keyvalue", "capabilities.http"))] == []
    assert {"importlib.metadata", "redis", "aiohttp", "wasmtime", "asyncio"}.isdisjoint(imported)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("keyvalue.memory", MemoryStores),
        ("keyvalue.filesystem", FilesystemBackend),
        ("keyvalue.redis", RedisBackend),
        ("keyvalue.awsdynamodb", DynamoDbBackend),
        ("kv.awsdynamodb", DynamoDbBackend),
        ("keyvalue.azblob", AzureBlobBackend),
        ("kv.azblob", AzureBlobBackend),
        ("keyvalue.dapr", DaprBackend),
        ("configs.memory", MemoryConfigs),
        ("configs.envvars", EnvironmentConfigs),
        ("configs.usersecrets", UserSecrets),
        ("configs.azapp", AppConfiguration),
        ("distributed_locking.memory", MemoryLocks),
        ("distributed_locking.etcd", EtcdBackend),
        ("lockd.etcd", EtcdBackend),
        ("sql.sqlite", SqliteBackend),
        ("sql.postgres", PostgresBackend),
        ("blobstore.filesystem", BlobFiles),
        ("blobstore.aws_s3", S3Backend),
        ("blobstore.azblob", AzureBackend),
        ("messaging.memory", MemoryTopics),
        ("messaging.filesystem", FilesystemMessages),
        ("messaging.mosquitto", MosquittoBackend),
        ("messaging.nats", NatsBackend),
        ("messaging.confluent_apache_kafka", KafkaBackend),
        ("messaging.azsbus", ServiceBusBackend),
        ("mq.filesystem", FilesystemMessages),
        ("mq.azsbus", ServiceBusBackend),
        ("kv.filesystem", FilesystemBackend),
        ("kv.redis", RedisBackend),
    ],
)
def test_a_resource_type_has_the_config_keys_of_its_backend(name: str, backend: Any) -> None:
    resource = registry.resource_type(name)
    assert resource is not None
    assert registry.load_backend(resource) is backend
    assert (resource.required, resource.optional) == (backend.REQUIRED, backend.OPTIONAL)


def test_the_http_client_has_the_config_keys_of_its_policy() -> None:
    found = registry.resource_type("http-client")
    assert found is not None
    assert (found.required, found.optional) == ((), policy.KEYS)
    assert isinstance(registry.load_backend(found)({}), HttpClient)


def test_the_http_server_has_the_config_keys_of_its_cors_rules() -> None:
    http = registry.resource_type("http")
    assert http is not None
    assert http.required == ()
    assert http.optional == cors.KEYS
    assert isinstance(registry.load_backend(http)({"CORS_MAX_AGE": "60"}), cors.Cors)


@pytest.mark.parametrize(
    ("family", "names"),
    {
        "keyvalue": "redis filesystem awsdynamodb azblob dapr",
        "messaging": "filesystem mosquitto nats confluent_apache_kafka azsbus",
        "configs": "envvars usersecrets azapp",
        "distributed_locking": "etcd",
        "sql": "postgres",
    }.items(),
)
def test_the_resource_types_of_upstream_are_there(family: str, names: str) -> None:
    for name in names.split():
        found = registry.resource_type(f"{family}.{name}")
        assert found is not None
        assert found.family == family


@pytest.mark.parametrize(
    "name",
    [
        *("http", "http-client", "blobstore.aws_s3", "blobstore.azblob", "lockd.etcd", "mq.filesystem", "mq.azsbus"),
        *("kv.redis", "kv.filesystem", "kv.awsdynamodb", "kv.azblob"),
    ],
)
def test_the_other_and_the_older_names_of_upstream_are_there(name: str) -> None:
    assert registry.resource_type(name) is not None


@pytest.mark.parametrize(
    ("interface", "family"),
    {
        "keyvalue": "keyvalue",
        "kv": "keyvalue",
        "http-server": "http",
        "http-client": "http-client",
        "messaging": "messaging",
        "configs": "configs",
        "distributed-locking": "distributed_locking",
        "sql": "sql",
        "blob-store": "blob",
    }.items(),
)
def test_a_guests_import_module_means_its_family(interface: str, family: str) -> None:
    found = registry.family_of(interface)
    assert found is not None
    assert found.name == family


@pytest.mark.parametrize(
    "interface", ["http-types", "blob-types", "types", "http-handler", "http-server-export", "key-value", ""]
)
def test_interfaces_of_types_and_of_guests_exports_belong_to_no_family(interface: str) -> None:
    assert registry.family_of(interface) is None


def test_an_embedded_backend_needs_no_configuration() -> None:
    for family in registry.families():
        if family.embedded is not None:
            resource = registry.resource_type(family.embedded)
            assert resource in registry.available(family.name)
            assert resource is not None
            assert resource.required == ()
    assert {family.name for family in registry.families() if not family.embedded} == set()


def test_what_is_available_is_listed_without_former_names() -> None:
    names = [resource.name for resource in registry.available("keyvalue")]
    assert names == [
        "keyvalue.memory",
        "keyvalue.filesystem",
        "keyvalue.redis",
        "keyvalue.awsdynamodb",
        "keyvalue.azblob",
        "keyvalue.dapr",
    ]
    names = [resource.name for resource in registry.available("messaging")]
    assert names == [
        "messaging.memory",
        "messaging.filesystem",
        "messaging.mosquitto",
        "messaging.nats",
        "messaging.confluent_apache_kafka",
        "messaging.azsbus",
    ]


def test_unknown_names_are_none() -> None:
    assert registry.resource_type("keyvalue.toaster") is None
    assert registry.family("toaster") is None


def test_a_backend_whose_library_is_missing_is_an_error_that_names_the_library() -> None:
    resource = ResourceType("keyvalue.x", "keyvalue", load="no_such_module:Stores")
    with pytest.raises(RegistryError, match=r"^keyvalue\.x needs the Python module 'no_such_module'; install it"):
        registry.load_backend(resource)


def test_a_backend_that_does_not_exist_in_its_module_is_an_error() -> None:
    resource = ResourceType("keyvalue.x", "keyvalue", load="capabilities.registry:NoSuchClass")
    with pytest.raises(RegistryError, match=r"^keyvalue\.x cannot be used: AttributeError: .*NoSuchClass"):
        registry.load_backend(resource)


@pytest.mark.usefixtures("_queue")
def test_a_package_adds_a_resource_type_and_a_family() -> None:
    local = registry.resource_type("queue.local")
    assert local == ResourceType("queue.local", "queue", load="queue_package:Local")
    assert registry.load_backend(local).__name__ == "Local"
    queue = Family("queue", {"work-queue": "queue_package"}, "queue_package:hosts", "queue.local", named=True)
    assert registry.family_of("work-queue") == queue
    assert registry.family("queue") == registry.family_of("work-queue")
    assert [resource.name for resource in registry.available("queue")] == ["queue.remote", "queue.local"]


@pytest.mark.usefixtures("_queue")
def test_a_slightfile_grants_the_resource_type_of_a_package(tmp_path: Path) -> None:
    path = tmp_path / "slightfile.toml"
    path.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "queue.remote"\nname = "jobs"\n'
        '[capability.configs]\nQUEUE_ADDRESS = "10.0.0.1"\n'
    )
    (grant,) = load(path).grants_for("queue")
    assert (grant.name, grant.resource.name, dict(grant.configs)) == (
        "jobs",
        "queue.remote",
        {"QUEUE_ADDRESS": "10.0.0.1"},
    )


@pytest.mark.usefixtures("_queue")
def test_without_a_slightfile_the_family_of_a_package_has_its_embedded_backend() -> None:
    (grant,) = embedded().grants_for("queue")
    assert (grant.name, grant.resource.name) == ("*", "queue.local")


@pytest.mark.usefixtures("_queue")
def test_the_lines_to_add_prefer_the_embedded_backend() -> None:
    assert suggest("queue", "0.2") == '[[capability]]\nresource = "queue.local"\nname = "*"'


def test_lines_to_add_hold_the_configs_that_the_resource_type_requires(install: Install) -> None:
    source = """
        from capabilities.registry import Family, ResourceType

        CLOCK = Family("clock", {"clock": "clock_package"})
        NTP = ResourceType("clock.ntp", "clock", required=("NTP_HOST",), load="clock_package:Ntp")
    """
    install("clock_package", source, **{"clock": "CLOCK", "clock.ntp": "NTP"})
    assert suggest("clock", "0.2") == (
        '[[capability]]\nresource = "clock.ntp"\nname = "*"\n[capability.configs]\nNTP_HOST = "${envvars.NTP_HOST}"'
    )


def test_a_package_cannot_replace_what_is_built_in(install: Install) -> None:
    source = """
        from capabilities.registry import Family, ResourceType
        MEMORY = ResourceType("keyvalue.memory", "keyvalue", load="evil_package:Memory")
        KEYVALUE = Family("keyvalue", {"keyvalue": "evil_package"})
        OTHER = Family("other", {"kv": "evil_package", "http-server": "evil_package"})
    """
    built_in = {interface: registry.family_of(interface) for interface in ("keyvalue", "kv", "http-server")}
    install("evil_package", source, **{"keyvalue.memory": "MEMORY", "keyvalue": "KEYVALUE", "other": "OTHER"})
    memory = registry.resource_type("keyvalue.memory")
    assert memory is not None
    assert memory.load == "capabilities.keyvalue.memory:MemoryStores"
    assert registry.family("keyvalue") == built_in["keyvalue"]
    assert {interface: registry.family_of(interface) for interface in built_in} == built_in
    assert None not in built_in.values()


def test_a_family_with_names_needs_a_host_that_tells_its_backends_apart() -> None:
    with pytest.raises(ValueError, match="'clock' has names, so it needs a host"):
        Family("clock", {"clock": "clock_package"}, named=True)


def test_the_interfaces_of_a_family_come_with_their_modules(install: Install) -> None:
    source = """
        from capabilities.registry import Family
        CLOCK = Family("clock", ("clock",))
    """
    install("clock_package", source, clock="CLOCK")
    with pytest.raises(RegistryError, match="TypeError: the interfaces of the family 'clock' must be a mapping"):
        registry.family("clock")


@pytest.mark.parametrize("family", registry.families())
def test_the_modules_and_the_host_of_a_built_in_family_are_there(family: Family) -> None:
    for interface in family.interfaces:
        bindings = registry.load_bindings(family, interface)
        assert {each.module for each in bindings.IMPORTS} == {interface}
    if family.host != registry.RUNTIME:
        make = registry.load_host(family)
        grants = {} if family.named else {"*": SimpleNamespace(stream=None)}  # an HTTP client that streams
        hosts = make(grants, {}) if family.actions else make(grants)
        assert hosts.keys() == family.interfaces.keys()
        for interface, host in hosts.items():
            answers = host.session() if hasattr(host, "session") else host
            assert custom.faults(answers, registry.load_bindings(family, interface)) == []


def test_bindings_of_another_interface_are_an_error() -> None:
    family = Family("clock", {"clock": "capabilities.bindings.keyvalue", "gong": "capabilities.bindings.http_types"})
    for interface in family.interfaces:
        with pytest.raises(RegistryError, match=f"is not what `slight-py bindgen python` makes of {interface}"):
            registry.load_bindings(family, interface)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise RuntimeError('two\\nlines')", "cannot be loaded: RuntimeError: two lines"),
        ("x = (", "cannot be loaded: SyntaxError: "),
        ("", "cannot be loaded: AttributeError: "),
        ("THING = 'keyvalue.broken'", "is neither a ResourceType nor a Family, but str"),
        (
            "from capabilities.registry import ResourceType\nTHING = ResourceType('keyvalue.other', 'keyvalue')",
            "calls itself 'keyvalue.other'",
        ),
    ],
)
def test_a_broken_entry_point_is_an_error_that_names_the_package(install: Install, source: str, reason: str) -> None:
    install("broken_package", source, **{"keyvalue.broken": "THING"})
    with pytest.raises(RegistryError) as caught:
        registry.resource_type("keyvalue.broken")
    message = str(caught.value)
    prefix = "'keyvalue.broken', which the installed package broken_package adds to slight-py, "
    assert message.startswith(prefix + reason)
    assert message.endswith("; update the package or uninstall it")
    assert "\n" not in message


def test_a_broken_entry_point_harms_only_who_asks_for_it(install: Install) -> None:
    install("broken_package", "import no_such_library", **{"keyvalue.broken": "THING"})
    install("queue_package", QUEUE_PACKAGE, **{"queue": "QUEUE", "queue.local": "LOCAL"})
    assert registry.resource_type("keyvalue.redis") is not None
    assert registry.resource_type("keyvalue.unknown") is None
    assert "keyvalue.redis" in {resource.name for resource in registry.available("keyvalue")}
    found = registry.family_of("work-queue")
    assert found is not None
    assert found.name == "queue"
    with pytest.raises(RegistryError, match="broken_package"):
        registry.family_of("an-interface-that-the-broken-package-may-serve")


def test_a_broken_entry_point_is_an_error_on_the_line_that_names_it(install: Install, tmp_path: Path) -> None:
    install("broken_package", "import no_such_library", **{"keyvalue.broken": "THING"})
    path = tmp_path / "slightfile.toml"
    path.write_text('specversion = "0.2"\n[[capability]]\nresource = "keyvalue.broken"\nname = "a"\n')
    with pytest.raises(UsageError) as caught:
        load(path)
    (line,) = caught.value.lines
    assert line.startswith(f"{path}:3: 'keyvalue.broken', which the installed package broken_package adds")


def test_a_broken_family_is_a_usage_error_where_it_is_granted_or_suggested(install: Install) -> None:
    install("broken_package", "import no_such_library", queue="THING")
    with pytest.raises(UsageError, match="broken_package"):
        embedded().grants_for("queue")
    with pytest.raises(UsageError, match="broken_package"):
        suggest("queue", "0.2")


def test_a_resource_type_of_a_family_that_nothing_defines_is_an_error(install: Install) -> None:
    source = """
        from capabilities.registry import ResourceType
        LOST = ResourceType("queue.lost", "queue", load="lost_package:Lost")
    """
    install("lost_package", source, **{"queue.lost": "LOST"})
    with pytest.raises(RegistryError, match=r"'queue\.lost' .* family 'queue', which nothing defines"):
        registry.resource_type("queue.lost")


def test_a_name_that_two_packages_define_is_an_error_that_names_both(install: Install) -> None:
    source = """
        from capabilities.registry import ResourceType
        SAME = ResourceType("keyvalue.same", "keyvalue", load="x:X")
    """
    install("one_package", source, **{"keyvalue.same": "SAME"})
    install("other_package", source, **{"keyvalue.same": "SAME"})
    with pytest.raises(RegistryError, match="one_package and other_package; uninstall all but one"):
        registry.resource_type("keyvalue.same")


def test_what_keeps_its_things_here_needs_no_network() -> None:
    embedded = {family.embedded for family in registry.families()} - {"http-client"}
    here = [each for each in registry.names() if each.endswith((".memory", ".filesystem")) or each in embedded]
    assert len(here) > len(embedded)
    for name in here:
        resource = registry.resource_type(name)
        assert resource is not None
        assert resource.local, name
    redis = registry.resource_type("keyvalue.redis")
    assert redis is not None
    assert not redis.local
