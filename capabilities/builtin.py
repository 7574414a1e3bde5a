"""The families and the resource types that come with this package, a paragraph a family.

Of upstream's, those that this version does not have are here, too, without what they would load: an error can say so,
instead of calling them unknown. Within a family, the resource types are in order of preference: the first one is what
messages suggest, and the first name of a backend is the one that they call it by.
"""

from __future__ import annotations

from dataclasses import replace

from capabilities.families import RUNTIME, Family, ResourceType

# Key/value stores.

_KEYVALUE = Family(
    "keyvalue",
    {"keyvalue": "capabilities.bindings.keyvalue", "kv": "capabilities.bindings.kv"},
    host="capabilities.keyvalue.host:hosts",
    embedded="keyvalue.memory",
    named=True,
)
_FILESYSTEM = ResourceType(
    "keyvalue.filesystem",
    "keyvalue",
    optional=("DIRECTORY",),
    load="capabilities.keyvalue.filesystem:FilesystemBackend",
    local=True,
)
_REDIS = ResourceType(
    "keyvalue.redis",
    "keyvalue",
    required=("REDIS_ADDRESS",),
    load="capabilities.keyvalue.redis:RedisBackend",
    extra="redis",
)
_KEYVALUE_TYPES = (
    ResourceType("keyvalue.memory", "keyvalue", load="capabilities.keyvalue.memory:MemoryStores", local=True),
    _FILESYSTEM,
    _REDIS,
    ResourceType("keyvalue.awsdynamodb", "keyvalue"),
    ResourceType("keyvalue.azblob", "keyvalue"),
    ResourceType("keyvalue.dapr", "keyvalue"),
    replace(_FILESYSTEM, name="kv.filesystem"),
    replace(_REDIS, name="kv.redis"),
    ResourceType("kv.awsdynamodb", "keyvalue"),
    ResourceType("kv.azblob", "keyvalue"),
)

# The HTTP server.

_HTTP = Family("http", {"http-server": "capabilities.bindings.http_server"}, host=RUNTIME, embedded="http")
_HTTP_TYPES = (
    ResourceType(
        "http",
        "http",
        optional=(
            "CORS_ALLOW_ORIGIN",
            "CORS_ALLOW_METHODS",
            "CORS_ALLOW_HEADERS",
            "CORS_EXPOSE_HEADERS",
            "CORS_MAX_AGE",
            "CORS_ALLOW_CREDENTIALS",
        ),
        load="capabilities.http.cors:Cors.from_configs",
        local=True,
    ),
)

# The HTTP client.

_HTTP_CLIENT = Family("http-client", {"http-client": ""})
_HTTP_CLIENT_TYPES = (ResourceType("http-client", "http-client"),)

# Messages.

_MESSAGING = Family("messaging", {"messaging": ""}, named=True)
_MESSAGING_TYPES = (
    ResourceType("messaging.filesystem", "messaging"),
    ResourceType("messaging.mosquitto", "messaging"),
    ResourceType("messaging.nats", "messaging"),
    ResourceType("messaging.confluent_apache_kafka", "messaging"),
    ResourceType("messaging.azsbus", "messaging"),
    ResourceType("mq.filesystem", "messaging"),
    ResourceType("mq.azsbus", "messaging"),
)

# Settings.

_CONFIGS = Family(
    "configs",
    {"configs": "capabilities.bindings.configs"},
    host="capabilities.configs.host:hosts",
    embedded="configs.memory",
    named=True,
)
_CONFIGS_TYPES = (
    ResourceType(
        "configs.memory", "configs", load="capabilities.configs.memory:MemoryConfigs", shared=True, local=True
    ),
    ResourceType(
        "configs.envvars",
        "configs",
        optional=("VARIABLES",),
        load="capabilities.configs.envvars:EnvironmentConfigs",
        shared=True,
        local=True,
    ),
    ResourceType(
        "configs.usersecrets",
        "configs",
        load="capabilities.configs.usersecrets:UserSecrets",
        extra="secrets",
        secrets=True,
        local=True,
    ),
    ResourceType(
        "configs.azapp",
        "configs",
        optional=("AZAPPCONFIG_ENDPOINT", "AZAPPCONFIG_KEYID", "AZAPPCONFIG_KEYSECRET"),
        load="capabilities.configs.azapp:AppConfiguration",
        extra="azapp",
    ),
)

# Locks.

_LOCKING = Family("distributed_locking", {"distributed-locking": ""}, named=True)
_LOCKING_TYPES = (
    ResourceType("distributed_locking.etcd", "distributed_locking"),
    ResourceType("lockd.etcd", "distributed_locking"),
)

# Databases.

_SQL = Family("sql", {"sql": ""}, named=True)
_SQL_TYPES = (ResourceType("sql.postgres", "sql"),)

# Containers of objects.

_BLOB = Family("blob", {"blob-store": ""}, named=True)
_BLOB_TYPES = (
    ResourceType("blobstore.aws_s3", "blob"),
    ResourceType("blobstore.azblob", "blob"),
)

# All of them.

FAMILIES = (_KEYVALUE, _HTTP, _HTTP_CLIENT, _MESSAGING, _CONFIGS, _LOCKING, _SQL, _BLOB)

RESOURCE_TYPES = (
    *_KEYVALUE_TYPES,
    *_HTTP_TYPES,
    *_HTTP_CLIENT_TYPES,
    *_MESSAGING_TYPES,
    *_CONFIGS_TYPES,
    *_LOCKING_TYPES,
    *_SQL_TYPES,
    *_BLOB_TYPES,
)
