#include "http_types.h"

#include <string.h>

abi_string_t http_field(http_fields_t fields, abi_string_t name) {
    for (size_t i = 0; i < fields.len; i++) {
        const http_field_t *field = &fields.ptr[i];
        if (field->name.len == name.len && memcmp(field->name.ptr, name.ptr, name.len) == 0) return field->value;
    }
    return (abi_string_t){0};
}

void http_fields_free(http_fields_t fields) {
    for (size_t i = 0; i < fields.len; i++) {
        abi_string_free(fields.ptr[i].name);
        abi_string_free(fields.ptr[i].value);
    }
    canonical_abi_free((void *)fields.ptr, fields.len * sizeof *fields.ptr, _Alignof(http_field_t));
}

void http_request_free(http_request_t request) {
    abi_string_free(request.uri);
    http_fields_free(request.headers);
    http_fields_free(request.params);
    if (request.body.is_some) abi_bytes_free(request.body.value);
}

void http_response_free(http_response_t response) {
    if (response.headers.is_some) http_fields_free(response.headers.value);
    if (response.body.is_some) abi_bytes_free(response.body.value);
}

void http_error_free(http_error_t error) {
    if (error.kind != HTTP_STATUS_ERROR) abi_string_free(error.text);
}
