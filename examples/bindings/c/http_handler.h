/* Functions that answer HTTP requests: wit/http-handler.wit for a guest in C.
 *
 *     static bool handle_hello(http_request_t *request, http_response_t *response, http_error_t *error) { ... }
 *     HTTP_HANDLER("handle-hello", handle_hello)
 */
#ifndef HTTP_HANDLER_H
#define HTTP_HANDLER_H

#include "http_types.h"

/* Answers a request: returns true and sets `response`, or returns false and sets `error`. What it sets becomes the
 * host's, so it's allocated with canonical_abi_realloc, or taken from the request. What it leaves in the request, or
 * in a response that it doesn't send, is freed for it.
 */
typedef bool http_handler_t(http_request_t *request, http_response_t *response, http_error_t *error);

/* Takes the request's headers for a response. */
http_headers_t http_handler_take_headers(http_request_t *request);

/* Takes the request's body for a response. */
http_body_t http_handler_take_body(http_request_t *request);

/* A body that holds a copy of `bytes`. */
http_body_t http_handler_body(abi_bytes_t bytes);

/* expected<response, http-error> */
typedef struct {
    bool is_err;
    union {
        http_response_t response;
        http_error_t error;
    };
} http_handler_result_t;

/* Calls a handler on behalf of its export: the result is good until the next call. */
const http_handler_result_t *http_handler_call(http_handler_t *handler, http_request_t request);

/* Exports `handler` under `name`, in kebab case. */
#define HTTP_HANDLER(name, handler)                                                                                 \
    __attribute__((export_name(name))) const http_handler_result_t *handler##_export(                               \
        http_method_t method, const char *uri, size_t uri_len, const http_field_t *headers, size_t headers_len,     \
        const http_field_t *params, size_t params_len, bool has_body, const uint8_t *body, size_t body_len) {       \
        return http_handler_call(handler, (http_request_t){                                                         \
            .method = method,                                                                                       \
            .uri = {uri, uri_len},                                                                                  \
            .headers = {headers, headers_len},                                                                      \
            .params = {params, params_len},                                                                         \
            .body = {has_body, {body, body_len}},                                                                   \
        });                                                                                                         \
    }

#endif
