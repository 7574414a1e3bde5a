/* Stores of keys and values: wit/keyvalue.wit for a guest in C.
 *
 * Every function returns true and sets its result, or returns false and sets `error`. The caller frees either.
 */
#ifndef KEYVALUE_H
#define KEYVALUE_H

#include <stdbool.h>

#include "canonical_abi.h"

typedef struct {
    uint32_t handle;
} keyvalue_t;

enum {
    KEYVALUE_KEY_NOT_FOUND,
    KEYVALUE_INVALID_KEY,
    KEYVALUE_INVALID_VALUE,
    KEYVALUE_CONNECTION_ERROR,
    KEYVALUE_AUTHENTICATION_ERROR,
    KEYVALUE_TIMEOUT_ERROR,
    KEYVALUE_IO_ERROR,
    KEYVALUE_UNEXPECTED_ERROR,
};

typedef struct {
    uint8_t kind;
    abi_string_t text;
} keyvalue_error_t;

/* Opens the store that the slightfile grants under `name`. */
bool keyvalue_open(abi_string_t name, keyvalue_t *store, keyvalue_error_t *error);

/* Gets the value under `key`; fails with KEYVALUE_KEY_NOT_FOUND where there is none. */
bool keyvalue_get(keyvalue_t store, abi_string_t key, abi_bytes_t *value, keyvalue_error_t *error);

/* Puts `value` under `key`, in place of what may be there. */
bool keyvalue_set(keyvalue_t store, abi_string_t key, abi_bytes_t value, keyvalue_error_t *error);

/* Gets the keys of the store, in no particular order. */
bool keyvalue_keys(keyvalue_t store, abi_strings_t *keys, keyvalue_error_t *error);

/* Removes `key` and its value; fails with KEYVALUE_KEY_NOT_FOUND where there is none. */
bool keyvalue_delete(keyvalue_t store, abi_string_t key, keyvalue_error_t *error);

/* Closes the store. */
void keyvalue_drop(keyvalue_t store);

static inline void keyvalue_error_free(keyvalue_error_t error) {
    abi_string_free(error.text);
}

#endif
