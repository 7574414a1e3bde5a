/* The little of a C library that this guest needs.
 *
 * The allocator stands in for bindings/c/canonical_abi.c: it hands out memory from the end of the guest's data upward,
 * and only the block that was handed out last is ever given back.
 */
#include "canonical_abi.h"

#define PAGE_SIZE 65536

/* Where the linker laid the end of the guest's data and stack. */
extern unsigned char __heap_base;

static uintptr_t top;

static void grow_to(uintptr_t end) {
    size_t pages = (end - 1) / PAGE_SIZE + 1;
    size_t present = __builtin_wasm_memory_size(0);
    if (pages > present && __builtin_wasm_memory_grow(0, pages - present) == (size_t)-1) __builtin_trap();
}

__attribute__((export_name("canonical_abi_realloc")))
void *canonical_abi_realloc(void *ptr, size_t old_size, size_t align, size_t new_size) {
    if (new_size == 0) {
        canonical_abi_free(ptr, old_size, align);
        return (void *)align;
    }
    if (old_size && new_size <= old_size) return ptr;

    if (!top) top = (uintptr_t)&__heap_base;
    uintptr_t start = (top + align - 1) & -align;
    if (new_size > UINTPTR_MAX - start) __builtin_trap();
    grow_to(start + new_size);
    top = start + new_size;

    const uint8_t *from = ptr;
    uint8_t *to = (uint8_t *)start;
    for (size_t i = 0; i < old_size; i++) to[i] = from[i];
    return to;
}

__attribute__((export_name("canonical_abi_free")))
void canonical_abi_free(void *ptr, size_t size, size_t align) {
    (void)align;
    if (size && (uintptr_t)ptr + size == top) top = (uintptr_t)ptr;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}
