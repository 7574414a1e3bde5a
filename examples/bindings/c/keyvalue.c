#include "keyvalue.h"

#define IMPORT(function) __attribute__((import_module("keyvalue"), import_name("keyvalue::" function)))

/* expected<_, keyvalue-error>, laid out as the host writes it. */
typedef struct {
    bool is_err;
    union {
        keyvalue_t store;
        abi_bytes_t value;
        abi_strings_t keys;
        keyvalue_error_t error;
    };
} result_t;

_Static_assert(offsetof(result_t, value) == 4, "the payload of an expected<_, keyvalue-error>");
_Static_assert(offsetof(result_t, error.text) == 8, "the text of a keyvalue-error");
_Static_assert(sizeof(result_t) == 16, "an expected<_, keyvalue-error>");

IMPORT("open") void import_keyvalue_open(const char *name, size_t name_len, result_t *result);
IMPORT("get") void import_keyvalue_get(uint32_t store, const char *key, size_t key_len, result_t *result);
IMPORT("set") void import_keyvalue_set(uint32_t store, const char *key, size_t key_len, const uint8_t *value,
                                       size_t value_len, result_t *result);
IMPORT("keys") void import_keyvalue_keys(uint32_t store, result_t *result);
IMPORT("delete") void import_keyvalue_delete(uint32_t store, const char *key, size_t key_len, result_t *result);

__attribute__((import_module("canonical_abi"), import_name("resource_drop_keyvalue")))
void import_keyvalue_drop(uint32_t store);

bool keyvalue_open(abi_string_t name, keyvalue_t *store, keyvalue_error_t *error) {
    result_t result;
    import_keyvalue_open(name.ptr, name.len, &result);
    if (result.is_err) *error = result.error;
    else *store = result.store;
    return !result.is_err;
}

bool keyvalue_get(keyvalue_t store, abi_string_t key, abi_bytes_t *value, keyvalue_error_t *error) {
    result_t result;
    import_keyvalue_get(store.handle, key.ptr, key.len, &result);
    if (result.is_err) *error = result.error;
    else *value = result.value;
    return !result.is_err;
}

bool keyvalue_set(keyvalue_t store, abi_string_t key, abi_bytes_t value, keyvalue_error_t *error) {
    result_t result;
    import_keyvalue_set(store.handle, key.ptr, key.len, value.ptr, value.len, &result);
    if (result.is_err) *error = result.error;
    return !result.is_err;
}

bool keyvalue_keys(keyvalue_t store, abi_strings_t *keys, keyvalue_error_t *error) {
    result_t result;
    import_keyvalue_keys(store.handle, &result);
    if (result.is_err) *error = result.error;
    else *keys = result.keys;
    return !result.is_err;
}

bool keyvalue_delete(keyvalue_t store, abi_string_t key, keyvalue_error_t *error) {
    result_t result;
    import_keyvalue_delete(store.handle, key.ptr, key.len, &result);
    if (result.is_err) *error = result.error;
    return !result.is_err;
}

void keyvalue_drop(keyvalue_t store) {
    import_keyvalue_drop(store.handle);
}
