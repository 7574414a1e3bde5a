#include "canonical_abi.h"

#include <stdlib.h>

/* malloc aligns to 16 bytes; nothing in the ABI asks for more than 8. */

__attribute__((export_name("canonical_abi_realloc")))
void *canonical_abi_realloc(void *ptr, size_t old_size, size_t align, size_t new_size) {
    if (new_size == 0) {
        canonical_abi_free(ptr, old_size, align);
        return (void *)align;
    }
    void *block = realloc(old_size ? ptr : NULL, new_size);
    if (!block) abort();
    return block;
}

__attribute__((export_name("canonical_abi_free")))
void canonical_abi_free(void *ptr, size_t size, size_t align) {
    (void)align;
    if (size) free(ptr);
}
