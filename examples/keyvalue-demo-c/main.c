/* Puts a value into two stores, reads it back and removes it. */
#include <stdio.h>
#include <stdlib.h>

#include "keyvalue.h"

/* Every case of the error is a text, and they share their place. */
static _Noreturn void fail(const char *doing, keyvalue_error_t error) {
    fprintf(stderr, "%s: %.*s\n", doing, (int)error.unexpected_error.len, error.unexpected_error.ptr);
    exit(1);
}

static keyvalue_t open_store(const char *name) {
    keyvalue_t store;
    keyvalue_error_t error;
    if (!keyvalue_open(abi_string(name), &store, &error)) fail("open", error);
    return store;
}

static void set(keyvalue_t store, const char *key, const char *value) {
    keyvalue_error_t error;
    if (!keyvalue_set(store, abi_string(key), abi_bytes(value), &error)) fail("set", error);
}

static abi_bytes_t get(keyvalue_t store, const char *key) {
    abi_bytes_t value;
    keyvalue_error_t error;
    if (!keyvalue_get(store, abi_string(key), &value, &error)) fail("get", error);
    return value;
}

static void list_keys(keyvalue_t store) {
    abi_strings_t keys;
    keyvalue_error_t error;
    if (!keyvalue_keys(store, &keys, &error)) fail("keys", error);
    for (size_t i = 0; i < keys.len; i++) printf("key: %.*s\n", (int)keys.ptr[i].len, keys.ptr[i].ptr);
    abi_strings_free(keys);
}

static void delete(keyvalue_t store, const char *key) {
    keyvalue_error_t error;
    if (!keyvalue_delete(store, abi_string(key), &error)) fail("delete", error);
}

static void expect_no_value(keyvalue_t store, const char *key) {
    abi_bytes_t value;
    keyvalue_error_t error;
    if (keyvalue_get(store, abi_string(key), &value, &error)) {
        fprintf(stderr, "the key is still there after it was deleted\n");
        exit(1);
    }
    if (error.tag != KEYVALUE_ERROR_KEY_NOT_FOUND) fail("get after delete", error);
    keyvalue_error_free(error);
}

int main(void) {
    keyvalue_t keyvalue1 = open_store("my-container");
    keyvalue_t keyvalue2 = open_store("my-container2");
    set(keyvalue1, "key", "spiderlightning");
    set(keyvalue2, "key", "spiderlightning");
    list_keys(keyvalue1);
    list_keys(keyvalue2);

    abi_bytes_t value1 = get(keyvalue1, "key");
    abi_bytes_t value2 = get(keyvalue2, "key");
    printf("The value for keyvalue1 is: %.*s, keyvalue2 is %.*s\n",
           (int)value1.len, (const char *)value1.ptr, (int)value2.len, (const char *)value2.ptr);
    abi_bytes_free(value1);
    abi_bytes_free(value2);

    delete(keyvalue1, "key");
    delete(keyvalue2, "key");
    expect_no_value(keyvalue1, "key");
    expect_no_value(keyvalue2, "key");
    keyvalue_drop(keyvalue1);
    keyvalue_drop(keyvalue2);
}
