/* The little of a C library that this guest needs, and what bindings/c/canonical_abi.c asks for where there is none.
 *
 * Memory is handed out from the end of the guest's data upward, and only the block that was handed out last is ever
 * given back.
 */
#include <stddef.h>
#include <stdint.h>

#define PAGE_SIZE 65536

/* Where the linker laid the end of the guest's data and stack. */
extern unsigned char __heap_base;

/* Before each block, its size; as large as the largest alignment, so that a block is aligned as its header is. */
typedef union {
    size_t size;
    max_align_t align;
} header_t;

static uintptr_t top;

_Noreturn void abort(void) {
    __builtin_trap();
}

static void grow_to(uintptr_t end) {
    size_t pages = (end - 1) / PAGE_SIZE + 1;
    size_t present = __builtin_wasm_memory_size(0);
    if (pages > present && __builtin_wasm_memory_grow(0, pages - present) == (size_t)-1) abort();
}

void free(void *ptr) {
    if (!ptr) return;
    header_t *header = (header_t *)ptr - 1;
    if ((uintptr_t)ptr + header->size == top) top = (uintptr_t)header;
}

void *realloc(void *ptr, size_t size) {
    size_t old_size = ptr ? ((header_t *)ptr - 1)->size : 0;
    if (ptr && size <= old_size) return ptr;

    if (!top) top = (uintptr_t)&__heap_base;
    uintptr_t start = (top + _Alignof(header_t) - 1) & -_Alignof(header_t);
    if (size > UINTPTR_MAX - start - sizeof(header_t)) abort();
    grow_to(start + sizeof(header_t) + size);
    top = start + sizeof(header_t) + size;

    header_t *header = (header_t *)start;
    header->size = size;
    uint8_t *to = (uint8_t *)(header + 1);
    const uint8_t *from = ptr;
    for (size_t i = 0; i < old_size; i++) to[i] = from[i];
    return to;
}
