/* A guest that takes its arguments and drops them. */
#include "calls.h"

static uint32_t text(abi_string_t value) {
    uint32_t length = (uint32_t)value.len;
    abi_string_free(value);
    return length;
}

static uint32_t fields(calls_ten_t value) {
    uint32_t c = value.c;
    calls_ten_free(value);
    return c;
}

static uint32_t texts(abi_strings_t value) {
    uint32_t count = (uint32_t)value.len;
    abi_strings_free(value);
    return count;
}

CALLS_TEXT_EXPORT("text", text)
CALLS_FIELDS_EXPORT("fields", fields)
CALLS_TEXTS_EXPORT("texts", texts)
