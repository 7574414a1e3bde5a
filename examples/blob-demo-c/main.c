/* Writes two objects into a container, piece by piece, reads them back the same way and removes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blob_store.h"

enum { PIECE = 64 * 1024, PIECES = 48 };

static _Noreturn void fail(const char *doing, blob_store_error_t error) {
    fprintf(stderr, "%s: %.*s\n", doing, (int)error.unexpected_error.len, error.unexpected_error.ptr);
    exit(1);
}

static void write_piece(blob_store_write_stream_t stream, abi_bytes_t piece) {
    blob_store_error_t error;
    if (!blob_store_write_stream_write(stream, piece, &error)) fail("write", error);
}

static blob_store_write_stream_t begin(blob_store_container_t container, const char *name) {
    blob_store_write_stream_t stream;
    blob_store_error_t error;
    if (!blob_store_container_write_object(container, abi_string(name), &stream, &error)) fail("write-object", error);
    return stream;
}

/* Only now is the object there. */
static void end(blob_store_write_stream_t stream) {
    blob_store_error_t error;
    if (!blob_store_write_stream_close(stream, &error)) fail("close", error);
    blob_store_write_stream_drop(stream);
}

static bool has(blob_store_container_t container, const char *name) {
    bool found;
    blob_store_error_t error;
    if (!blob_store_container_has_object(container, abi_string(name), &found, &error)) fail("has-object", error);
    return found;
}

static void list(blob_store_container_t container) {
    abi_strings_t names;
    blob_store_error_t error;
    if (!blob_store_container_list_objects(container, &names, &error)) fail("list-objects", error);
    printf("%zu objects\n", names.len);
    abi_strings_free(names);
}

static void show(blob_store_container_t container, const char *name) {
    blob_types_object_metadata_t info;
    blob_store_error_t error;
    if (!blob_store_container_object_info(container, abi_string(name), &info, &error)) fail("object-info", error);
    printf("%.*s: %llu bytes\n", (int)info.name.len, info.name.ptr, (unsigned long long)info.size);
    blob_types_object_metadata_free(info);
}

/* Reads an object to its end, with one piece in memory at a time; returns how many bytes it had, and their sum. */
static uint64_t read_all(blob_store_container_t container, const char *name, uint64_t *sum) {
    blob_store_read_stream_t stream;
    blob_store_error_t error;
    uint64_t left, total = 0;
    if (!blob_store_container_read_object(container, abi_string(name), &stream, &error)) fail("read-object", error);
    *sum = 0;
    for (;;) {
        abi_option_bytes_t piece;
        if (!blob_store_read_stream_read(stream, PIECE, &piece, &error)) fail("read", error);
        if (!piece.is_some) break;
        for (size_t i = 0; i < piece.value.len; i++) *sum += piece.value.ptr[i];
        total += piece.value.len;
        abi_option_bytes_free(piece);
    }
    if (!blob_store_read_stream_available(stream, &left, &error)) fail("available", error);
    if (left != 0) {
        fprintf(stderr, "%llu bytes are left at the end\n", (unsigned long long)left);
        exit(1);
    }
    blob_store_read_stream_drop(stream);
    return total;
}

static void expect_nothing(blob_store_container_t container, const char *name) {
    blob_store_read_stream_t stream;
    blob_store_error_t error;
    if (blob_store_container_read_object(container, abi_string(name), &stream, &error)) {
        fprintf(stderr, "the object is still there after it was deleted\n");
        exit(1);
    }
    printf("%.*s\n", (int)error.unexpected_error.len, error.unexpected_error.ptr);
    blob_store_error_free(error);
}

int main(void) {
    static uint8_t piece[PIECE];
    blob_store_container_t container;
    blob_store_error_t error;
    if (!blob_store_container_open(abi_string("my-container"), &container, &error)) fail("open", error);
    if (!blob_store_container_clear(container, &error)) fail("clear", error);

    blob_store_write_stream_t greeting = begin(container, "greeting.txt");
    write_piece(greeting, abi_bytes("Hello, "));
    write_piece(greeting, abi_bytes("container!"));
    printf("before it is closed, it is %s\n", has(container, "greeting.txt") ? "there" : "not there");
    end(greeting);

    blob_store_write_stream_t numbers = begin(container, "numbers/large");
    for (int i = 0; i < PIECES; i++) {
        memset(piece, i, sizeof piece);
        write_piece(numbers, (abi_bytes_t){piece, sizeof piece});
    }
    end(numbers);

    list(container);
    show(container, "greeting.txt");
    show(container, "numbers/large");

    uint64_t sum, expected = 0, total = read_all(container, "numbers/large", &sum);
    for (int i = 0; i < PIECES; i++) expected += (uint64_t)i * PIECE;
    printf("%llu bytes read, %s\n", (unsigned long long)total, sum == expected ? "as they were written" : "damaged");

    if (!blob_store_container_delete_object(container, abi_string("greeting.txt"), &error)) fail("delete", error);
    expect_nothing(container, "greeting.txt");
    if (!blob_store_container_clear(container, &error)) fail("clear", error);
    list(container);
    blob_store_container_drop(container);
}
