/* Does with stores what requests on standard input say, and answers on standard output: what goes over them is what
 * unikernel/native/examples/keyvalue_line.rs describes. Requests are done one after the other, so `cancel` comes too
 * late for any of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyvalue.h"

static const char *const CASES[] = {"key-not-found",        "invalid-key",   "invalid-value", "connection-error",
                                    "authentication-error", "timeout-error", "io-error",      "unexpected-error"};

static void begin_answer(const char *number, const char *outcome, size_t length) {
    printf("%s %s %zu\n", number, outcome, length);
}

/* Reads so many bytes, which are the caller's to free. */
static char *part(size_t length) {
    char *bytes = malloc(length + 1);
    if (!bytes || fread(bytes, 1, length, stdin) != length) abort();
    return bytes;
}

static void answer_keys(const char *number, abi_strings_t keys) {
    size_t length = 0;
    for (size_t i = 0; i < keys.len; i++) length += 4 + keys.ptr[i].len;
    begin_answer(number, "ok", length);
    for (size_t i = 0; i < keys.len; i++) {
        uint32_t size = keys.ptr[i].len;
        fwrite(&size, 1, sizeof size, stdout); /* WebAssembly is little endian */
        fwrite(keys.ptr[i].ptr, 1, size, stdout);
    }
}

/* Does what is asked and answers, or returns false with the error. */
static bool perform(const char *number, const char *operation, abi_string_t name, abi_string_t key, abi_bytes_t value,
                    keyvalue_error_t *error) {
    keyvalue_t store;
    if (!keyvalue_open(name, &store, error)) return false;
    bool done = true;
    if (!strcmp(operation, "get")) {
        abi_bytes_t found;
        done = keyvalue_get(store, key, &found, error);
        if (done) {
            begin_answer(number, "ok", found.len);
            fwrite(found.ptr, 1, found.len, stdout);
            abi_bytes_free(found);
        }
    } else if (!strcmp(operation, "keys")) {
        abi_strings_t keys;
        done = keyvalue_keys(store, &keys, error);
        if (done) {
            answer_keys(number, keys);
            abi_strings_free(keys);
        }
    } else {
        if (!strcmp(operation, "set")) done = keyvalue_set(store, key, value, error);
        if (!strcmp(operation, "delete")) done = keyvalue_delete(store, key, error);
        if (done) begin_answer(number, "ok", 0);
    }
    keyvalue_drop(store);
    return done;
}

int main(void) {
    char line[200];
    while (fgets(line, sizeof line, stdin)) {
        char number[32], operation[16];
        size_t name_length, key_length, value_length;
        if (sscanf(line, "%31s %15s %zu %zu %zu", number, operation, &name_length, &key_length, &value_length) != 5) abort();
        char *name = part(name_length), *key = part(key_length), *value = part(value_length);
        keyvalue_error_t error;
        if (strcmp(operation, "cancel") &&
            !perform(number, operation, (abi_string_t){name, name_length}, (abi_string_t){key, key_length},
                     (abi_bytes_t){(uint8_t *)value, value_length}, &error)) {
            abi_string_t text = error.unexpected_error; /* that of any case */
            begin_answer(number, CASES[error.tag], text.len);
            fwrite(text.ptr, 1, text.len, stdout);
            keyvalue_error_free(error);
        }
        fflush(stdout);
        free(name), free(key), free(value);
    }
    return 0;
}
