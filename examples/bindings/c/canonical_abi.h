/* What guest and host share: blocks of the guest's memory, and the strings and lists in them.
 *
 * Who owns them:
 *   - what a guest passes to an import stays the guest's;
 *   - what an import returns, and what an export is called with, is the guest's to free;
 *   - what an export returns is the host's, which frees it with canonical_abi_free.
 *
 * A string or list of 0 bytes has no memory: its pointer is neither followed nor freed.
 */
#ifndef CANONICAL_ABI_H
#define CANONICAL_ABI_H

#include <stddef.h>
#include <stdint.h>

/* UTF-8 text, not terminated. */
typedef struct {
    const char *ptr;
    size_t len;
} abi_string_t;

/* list<u8> */
typedef struct {
    const uint8_t *ptr;
    size_t len;
} abi_bytes_t;

/* list<string> */
typedef struct {
    const abi_string_t *ptr;
    size_t len;
} abi_strings_t;

/* Allocates `new_size` bytes, or moves the block at `ptr` to where it has that size. Never returns NULL. */
void *canonical_abi_realloc(void *ptr, size_t old_size, size_t align, size_t new_size);

/* Frees a block of `size` bytes. */
void canonical_abi_free(void *ptr, size_t size, size_t align);

/* Views of a C string, which stays the caller's. */
static inline abi_string_t abi_string(const char *text) {
    return (abi_string_t){text, __builtin_strlen(text)};
}

static inline abi_bytes_t abi_bytes(const char *text) {
    return (abi_bytes_t){(const uint8_t *)text, __builtin_strlen(text)};
}

static inline void abi_string_free(abi_string_t string) {
    canonical_abi_free((void *)string.ptr, string.len, 1);
}

static inline void abi_bytes_free(abi_bytes_t bytes) {
    canonical_abi_free((void *)bytes.ptr, bytes.len, 1);
}

static inline void abi_strings_free(abi_strings_t strings) {
    for (size_t i = 0; i < strings.len; i++) abi_string_free(strings.ptr[i]);
    canonical_abi_free((void *)strings.ptr, strings.len * sizeof *strings.ptr, _Alignof(abi_string_t));
}

#endif
