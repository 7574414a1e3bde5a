/* Puts a value into a store, reads it back and removes it, through the interface of before December 2022. */
#include <stdio.h>
#include <stdlib.h>

#include "kv.h"

static _Noreturn void fail(const char *doing, types_error_t error) {
    fprintf(stderr, "%s: %.*s\n", doing, (int)error.error_with_description.len,
            error.error_with_description.ptr);
    exit(1);
}

int main(void) {
    abi_string_t key = abi_string("key");
    kv_t store;
    types_error_t error;
    if (!kv_open(abi_string("my-container"), &store, &error)) fail("open", error);
    if (!kv_set(store, key, abi_bytes("spiderlightning"), &error)) fail("set", error);

    abi_strings_t keys;
    if (!kv_keys(store, &keys, &error)) fail("keys", error);
    for (size_t i = 0; i < keys.len; i++) printf("key: %.*s\n", (int)keys.ptr[i].len, keys.ptr[i].ptr);
    abi_strings_free(keys);

    types_payload_t value;
    if (!kv_get(store, key, &value, &error)) fail("get", error);
    printf("The value for kv is: %.*s\n", (int)value.len, (const char *)value.ptr);
    types_payload_free(value);

    if (!kv_delete(store, key, &error)) fail("delete", error);
    if (kv_get(store, key, &value, &error)) {
        fprintf(stderr, "the key is still there after it was deleted\n");
        exit(1);
    }
    types_error_free(error);
    kv_drop(store);
}
