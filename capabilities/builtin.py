"""The families and the resource types that come with this package, a paragraph a family.

Within a family, the resource types are in order of preference: the first one is what messages suggest, and the first
name of a backend is the one that they call it by.
"""

from __future__ import annotations

from dataclasses import replace

from capabilities.families import RUNTIME, Family, ResourceType

# Key/value stores.

_KEYVALUE = Family(
    "keyvalue",
    {
        "keyvalue": "capabilities.bindings.keyvalue",
        "kv": "capabilities.bindings.kv",
        "wasi:keyvalue/store@0.2.0-draft": "capabilities.bindings.wasi_keyvalue_0_2_0_draft.store",
        "wasi:keyvalue/atomics@0.2.0-draft": "capabilities.bindings.wasi_keyvalue_0_2_0_draft.atomics",
        "wasi:keyvalue/batch@0.2.0-draft": "capabilities.bindings.wasi_keyvalue_0_2_0_draft.batch",
        "wasi:keyvalue/store@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.store",
        "wasi:keyvalue/atomics@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.atomics",
        "wasi:keyvalue/batch@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.batch",
    },
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
_DYNAMODB = ResourceType(
    "keyvalue.awsdynamodb",
    "keyvalue",
    required=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    optional=("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"),
    load="capabilities.keyvalue.dynamodb:DynamoDbBackend",
    extra="aws",
)
_KEYVALUE_AZBLOB = ResourceType(
    "keyvalue.azblob",
    "keyvalue",
    required=("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"),
    optional=("AZURE_STORAGE_BLOB_ENDPOINT",),
    load="capabilities.keyvalue.azblob:AzureBlobBackend",
    extra="azure",
)
_KEYVALUE_TYPES = (
    ResourceType("keyvalue.memory", "keyvalue", load="capabilities.keyvalue.memory:MemoryStores", local=True),
    _FILESYSTEM,
    _REDIS,
    _DYNAMODB,
    _KEYVALUE_AZBLOB,
    ResourceType(
        "keyvalue.dapr",
        "keyvalue",
        optional=("DAPR_HTTP_ENDPOINT", "DAPR_ADDRESS", "DAPR_API_TOKEN"),
        load="capabilities.keyvalue.dapr:DaprBackend",
    ),
    replace(_FILESYSTEM, name="kv.filesystem"),
    replace(_REDIS, name="kv.redis"),
    replace(_DYNAMODB, name="kv.awsdynamodb"),
    replace(_KEYVALUE_AZBLOB, name="kv.azblob"),
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

_HTTP_CLIENT = Family(
    "http-client",
    {
        "http-client": "capabilities.bindings.http_client",
        "wasi:http/outgoing-handler@0.2.12": "capabilities.bindings.wasi_http_0_2.outgoing_handler",
        "wasi:http/client@0.3.0": "capabilities.bindings.wasi_http_0_3.client",
    },
    host="capabilities.http_client.host:hosts",
    embedded="http-client",
)
_HTTP_CLIENT_TYPES = (
    ResourceType(
        "http-client",
        "http-client",
        optional=("ALLOW_HOSTS", "ALLOW_SCHEMES", "ALLOW_PRIVATE", "TIMEOUT_SECONDS", "MAX_RESPONSE_MIB"),
        load="capabilities.http_client.client:HttpClient",
    ),
)

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
    local=True,
)
_SERVICE_BUS = ResourceType(
    "messaging.azsbus",
    "messaging",
    required=("AZURE_SERVICE_BUS_NAMESPACE", "AZURE_POLICY_NAME", "AZURE_POLICY_KEY"),
    optional=("AZURE_SERVICE_BUS_ENDPOINT",),
    load="capabilities.messaging.azsbus:ServiceBusBackend",
)
_MESSAGING_TYPES = (
    ResourceType(
        "messaging.memory", "messaging", load="capabilities.messaging.memory:MemoryTopics", shared=True, local=True
    ),
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

_CONFIGS = Family(
    "configs",
    {
        "configs": "capabilities.bindings.configs",
        "wasi:config/store@0.2.0-rc.1": "capabilities.bindings.wasi_config_0_2_0_rc_1.store",
        "wasi:config/store@0.2.0-draft-2024-09-27": "capabilities.bindings.wasi_config_0_2_0_draft_2024_09_27.store",
        "wasi:config/store@0.2.0-draft": "capabilities.bindings.wasi_config_0_2_0_draft.store",
        "wasi:config/runtime@0.2.0-draft": "capabilities.bindings.wasi_config_0_2_0_draft.runtime",
    },
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

_LOCKING = Family(
    "distributed_locking",
    {"distributed-locking": "capabilities.bindings.distributed_locking"},
    host="capabilities.locking.host:hosts",
    embedded="distributed_locking.memory",
    named=True,
)
_ETCD = ResourceType(
    "distributed_locking.etcd",
    "distributed_locking",
    required=("ETCD_ENDPOINT",),
    optional=("ETCD_USER", "ETCD_PASSWORD", "ETCD_CACERT", "ETCD_CERT", "ETCD_KEY"),
    load="capabilities.locking.etcd:EtcdBackend",
)
_LOCKING_TYPES = (
    ResourceType(
        "distributed_locking.memory",
        "distributed_locking",
        load="capabilities.locking.memory:MemoryLocks",
        shared=True,
        local=True,
    ),
    _ETCD,
    replace(_ETCD, name="lockd.etcd"),
)

# Databases.

_SQL = Family(
    "sql", {"sql": "capabilities.bindings.sql"}, host="capabilities.sql.host:hosts", embedded="sql.sqlite", named=True
)
_SQL_TYPES = (
    ResourceType(
        "sql.sqlite",
        "sql",
        optional=("DIRECTORY",),
        load="capabilities.sql.sqlite:SqliteBackend",
        shared=True,
        local=True,
    ),
    ResourceType(
        "sql.postgres",
        "sql",
        required=("POSTGRES_CONNECTION_URL",),
        load="capabilities.sql.postgres:PostgresBackend",
        extra="postgres",
    ),
)

# Containers of objects.

_BLOB = Family(
    "blob",
    {"blob-store": "capabilities.bindings.blob_store"},
    host="capabilities.blob.host:hosts",
    embedded="blobstore.filesystem",
    named=True,
)
_BLOB_TYPES = (
    ResourceType(
        "blobstore.filesystem",
        "blob",
        optional=("DIRECTORY",),
        load="capabilities.blob.filesystem:FilesystemBackend",
        shared=True,
        local=True,
    ),
    ResourceType(
        "blobstore.aws_s3",
        "blob",
        required=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        optional=("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"),
        load="capabilities.blob.aws_s3:S3Backend",
        extra="aws",
    ),
    ResourceType(
        "blobstore.azblob",
        "blob",
        required=("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"),
        optional=("AZURE_STORAGE_BLOB_ENDPOINT",),
        load="capabilities.blob.azblob:AzureBackend",
        extra="azure",
    ),
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
