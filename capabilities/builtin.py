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
)
_REDIS = ResourceType(
    "keyvalue.redis",
    "keyvalue",
    required=("REDIS_ADDRESS",),
    load="capabilities.keyvalue.redis:RedisBackend",
    extra="redis",
)
_KEYVALUE_TYPES = (
    ResourceType("keyvalue.memory", "keyvalue", load="capabilities.keyvalue.memory:MemoryStores"),
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
    ),
)

# The HTTP client.

_HTTP_CLIENT = Family("http-client", {"http-client": ""})
_HTTP_CLIENT_TYPES = (ResourceType("http-client", "http-client"),)

# Messages.

_MESSAGING = Family(
    "messaging",
    {"messaging": "capabilities.bindings.messaging"},
    host="capabilities.messaging.host:hosts",
    embedded="messaging.memory",
    named=True,
    actions=("publish", "subscribe"),
)
_FILES_OF_MESSAGES = ResourceType(
    "messaging.filesystem",
    "messaging",
    optional=("DIRECTORY",),
    load="capabilities.messaging.filesystem:FilesystemBackend",
)
_SERVICE_BUS = ResourceType(
    "messaging.azsbus",
    "messaging",
    required=("AZURE_SERVICE_BUS_NAMESPACE", "AZURE_POLICY_NAME", "AZURE_POLICY_KEY"),
    optional=("AZURE_SERVICE_BUS_ENDPOINT",),
    load="capabilities.messaging.azsbus:ServiceBusBackend",
)
_MESSAGING_TYPES = (
    ResourceType("messaging.memory", "messaging", load="capabilities.messaging.memory:MemoryTopics", shared=True),
    _FILES_OF_MESSAGES,
    ResourceType(
        "messaging.mosquitto",
        "messaging",
        required=("MOSQUITTO_HOST",),
        optional=(
            "MOSQUITTO_PORT",
            "MOSQUITTO_USERNAME",
            "MOSQUITTO_PASSWORD",
            "MOSQUITTO_TLS",
            "MOSQUITTO_CA_FILE",
        ),
        load="capabilities.messaging.mosquitto:MosquittoBackend",
        extra="mqtt",
    ),
    ResourceType(
        "messaging.nats",
        "messaging",
        optional=("NATS_ADDRESS", "NATS_CREDS", "NATS_USERNAME", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CA_FILE"),
        load="capabilities.messaging.nats:NatsBackend",
        extra="nats",
    ),
    ResourceType(
        "messaging.confluent_apache_kafka",
        "messaging",
        required=("CAK_ENDPOINT",),
        optional=(
            "CAK_SECURITY_PROTOCOL",
            "CAK_SASL_MECHANISMS",
            "CAK_SASL_USERNAME",
            "CAK_SASL_PASSWORD",
            "CAK_GROUP_ID",
            "CAK_CA_FILE",
        ),
        load="capabilities.messaging.kafka:KafkaBackend",
        extra="kafka",
    ),
    _SERVICE_BUS,
    replace(_FILES_OF_MESSAGES, name="mq.filesystem"),
    replace(_SERVICE_BUS, name="mq.azsbus"),
)

# Settings.

_CONFIGS = Family("configs", {"configs": ""}, named=True)
_CONFIGS_TYPES = (
    ResourceType("configs.envvars", "configs"),
    ResourceType("configs.usersecrets", "configs"),
    ResourceType("configs.azapp", "configs"),
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
