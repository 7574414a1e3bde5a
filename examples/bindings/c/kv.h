/* Stores of keys and values under their first name, of before December 2022: wit/compat/kv.wit for a guest in C.
 *
 * Every function returns true and sets its result, or returns false and sets `error`. The caller frees either.
 */
#ifndef KV_H
#define KV_H

#include <stdbool.h>

#include "canonical_abi.h"

typedef struct {
    uint32_t handle;
} kv_t;

enum {
    KV_ERROR_WITH_DESCRIPTION,
};

typedef struct {
    uint8_t kind;
    abi_string_t text;
} kv_error_t;

/* Opens the store that the slightfile grants under `name`. */
bool kv_open(abi_string_t name, kv_t *store, kv_error_t *error);

/* Gets the value under `key`; fails where there is none. */
bool kv_get(kv_t store, abi_string_t key, abi_bytes_t *value, kv_error_t *error);

/* Puts `value` under `key`, in place of what may be there. */
bool kv_set(kv_t store, abi_string_t key, abi_bytes_t value, kv_error_t *error);

/* Gets the keys of the store, in no particular order. */
bool kv_keys(kv_t store, abi_strings_t *keys, kv_error_t *error);

/* Removes `key` and its value; fails where there is none. */
bool kv_delete(kv_t store, abi_string_t key, kv_error_t *error);

/* Closes the store. */
void kv_drop(kv_t store);

static inline void kv_error_free(kv_error_t error) {
    abi_string_free(error.text);
}

#endif
