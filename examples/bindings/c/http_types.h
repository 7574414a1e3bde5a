/* Requests, responses and errors of HTTP: wit/http-types.wit for a guest in C, laid out as the host reads and
 * writes them.
 */
#ifndef HTTP_TYPES_H
#define HTTP_TYPES_H

#include <stdbool.h>

#include "canonical_abi.h"

typedef enum {
    HTTP_GET,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_HEAD,
    HTTP_OPTIONS,
} http_method_t;

/* A header, or a parameter of the route. */
typedef struct {
    abi_string_t name;
    abi_string_t value;
} http_field_t;

typedef struct {
    const http_field_t *ptr;
    size_t len;
} http_fields_t;

/* option<headers> */
typedef struct {
    bool is_some;
    http_fields_t value;
} http_headers_t;

/* option<body> */
typedef struct {
    bool is_some;
    abi_bytes_t value;
} http_body_t;

typedef struct {
    http_method_t method;
    abi_string_t uri;
    http_fields_t headers;
    http_fields_t params;
    http_body_t body;
} http_request_t;

typedef struct {
    uint16_t status;
    http_headers_t headers;
    http_body_t body;
} http_response_t;

enum {
    HTTP_INVALID_URL,
    HTTP_TIMEOUT_ERROR,
    HTTP_PROTOCOL_ERROR,
    HTTP_STATUS_ERROR,
    HTTP_UNEXPECTED_ERROR,
};

/* http-error, and http-router-error with the same cases. */
typedef struct {
    uint8_t kind;
    union {
        uint16_t status; /* of HTTP_STATUS_ERROR */
        abi_string_t text; /* of the others */
    };
} http_error_t;

/* The value of the field called `name`, byte for byte, or an empty text: a view into `fields`. */
abi_string_t http_field(http_fields_t fields, abi_string_t name);

void http_fields_free(http_fields_t fields);
void http_request_free(http_request_t request);
void http_response_free(http_response_t response);
void http_error_free(http_error_t error);

#endif
