#include "kv.h"

#define IMPORT(function) __attribute__((import_module("kv"), import_name("kv::" function)))

/* expected<_, error>, laid out as the host writes it. */
typedef struct {
    bool is_err;
    union {
        kv_t store;
        abi_bytes_t value;
        abi_strings_t keys;
        kv_error_t error;
    };
} result_t;

_Static_assert(offsetof(result_t, value) == 4, "the payload of an expected<_, error>");
_Static_assert(offsetof(result_t, error.text) == 8, "the text of an error");
_Static_assert(sizeof(result_t) == 16, "an expected<_, error>");

IMPORT("open") void import_kv_open(const char *name, size_t name_len, result_t *result);
IMPORT("get") void import_kv_get(uint32_t store, const char *key, size_t key_len, result_t *result);
IMPORT("set") void import_kv_set(uint32_t store, const char *key, size_t key_len, const uint8_t *value,
                                 size_t value_len, result_t *result);
IMPORT("keys") void import_kv_keys(uint32_t store, result_t *result);
IMPORT("delete") void import_kv_delete(uint32_t store, const char *key, size_t key_len, result_t *result);

__attribute__((import_module("canonical_abi"), import_name("resource_drop_kv")))
void import_kv_drop(uint32_t store);

bool kv_open(abi_string_t name, kv_t *store, kv_error_t *error) {
    result_t result;
    import_kv_open(name.ptr, name.len, &result);
    if (result.is_err) *error = result.error;
    else *store = result.store;
    return !result.is_err;
}

bool kv_get(kv_t store, abi_string_t key, abi_bytes_t *value, kv_error_t *error) {
    result_t result;
    import_kv_get(store.handle, key.ptr, key.len, &result);
    if (result.is_err) *error = result.error;
    else *value = result.value;
    return !result.is_err;
}

bool kv_set(kv_t store, abi_string_t key, abi_bytes_t value, kv_error_t *error) {
    result_t result;
    import_kv_set(store.handle, key.ptr, key.len, value.ptr, value.len, &result);
    if (result.is_err) *error = result.error;
    return !result.is_err;
}

bool kv_keys(kv_t store, abi_strings_t *keys, kv_error_t *error) {
    result_t result;
    import_kv_keys(store.handle, &result);
    if (result.is_err) *error = result.error;
    else *keys = result.keys;
    return !result.is_err;
}

bool kv_delete(kv_t store, abi_string_t key, kv_error_t *error) {
    result_t result;
    import_kv_delete(store.handle, key.ptr, key.len, &result);
    if (result.is_err) *error = result.error;
    return !result.is_err;
}

void kv_drop(kv_t store) {
    import_kv_drop(store.handle);
}
