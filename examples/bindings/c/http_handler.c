#include "http_handler.h"

#include <string.h>

_Static_assert(offsetof(http_handler_result_t, response.status) == 4, "the status of a response");
_Static_assert(offsetof(http_handler_result_t, response.headers) == 8, "the headers of a response");
_Static_assert(offsetof(http_handler_result_t, response.body) == 20, "the body of a response");
_Static_assert(offsetof(http_handler_result_t, error.text) == 8, "the text of an http-error");
_Static_assert(sizeof(http_handler_result_t) == 32, "an expected<response, http-error>");

http_headers_t http_handler_take_headers(http_request_t *request) {
    http_headers_t headers = {true, request->headers};
    request->headers = (http_fields_t){0};
    return headers;
}

http_body_t http_handler_take_body(http_request_t *request) {
    http_body_t body = request->body;
    request->body = (http_body_t){0};
    return body;
}

http_body_t http_handler_body(abi_bytes_t bytes) {
    uint8_t *copy = canonical_abi_realloc(NULL, 0, 1, bytes.len);
    memcpy(copy, bytes.ptr, bytes.len);
    return (http_body_t){true, {copy, bytes.len}};
}

const http_handler_result_t *http_handler_call(http_handler_t *handler, http_request_t request) {
    static http_handler_result_t result;
    http_response_t response = {0};
    http_error_t error = {0};
    if (handler(&request, &response, &error)) {
        result = (http_handler_result_t){.is_err = false, .response = response};
    } else {
        http_response_free(response);
        result = (http_handler_result_t){.is_err = true, .error = error};
    }
    http_request_free(request);
    return &result;
}
