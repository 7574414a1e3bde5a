/* A guest without WASI and without a C library: it can do what its imports offer and nothing else. Its `main` returns 0
 * if a value came back from a store as it went in.
 */
#include "keyvalue.h"

static bool is(abi_bytes_t value, const char *text) {
    abi_bytes_t expected = abi_bytes(text);
    if (value.len != expected.len) return false;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != expected.ptr[i]) return false;
    }
    return true;
}

static bool contains(abi_strings_t keys, const char *key) {
    for (size_t i = 0; i < keys.len; i++) {
        if (is((abi_bytes_t){(const uint8_t *)keys.ptr[i].ptr, keys.ptr[i].len}, key)) return true;
    }
    return false;
}

__attribute__((export_name("main")))
int main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    abi_string_t key = abi_string("key");
    keyvalue_t store;
    abi_strings_t keys;
    abi_bytes_t value;
    keyvalue_error_t error;

    if (!keyvalue_open(abi_string("my-container"), &store, &error)) return 1;
    if (!keyvalue_set(store, key, abi_bytes("spiderlightning"), &error)) return 2;
    if (!keyvalue_keys(store, &keys, &error)) return 3;
    if (!contains(keys, "key")) return 4;
    abi_strings_free(keys);
    if (!keyvalue_get(store, key, &value, &error)) return 5;
    if (!is(value, "spiderlightning")) return 6;
    abi_bytes_free(value);
    if (!keyvalue_delete(store, key, &error)) return 7;
    if (keyvalue_get(store, key, &value, &error)) return 8;
    if (error.tag != KEYVALUE_ERROR_KEY_NOT_FOUND) return 9;
    keyvalue_error_free(error);
    keyvalue_drop(store);
    return 0;
}
