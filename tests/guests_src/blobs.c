/* A server over the container `files`: PUT /files/:name writes the body as an object, GET reads it, DELETE begins to
 * write it and traps. */
#include <stdio.h>
#include <stdlib.h>

#include "blob_store.h"
#include "http_handler.h"
#include "http_server.h"

static void check(bool done, http_types_http_router_error_t *error) {
    if (done) return;
    fprintf(stderr, "%.*s\n", (int)error->unexpected_error.len, error->unexpected_error.ptr);
    exit(4);
}

int main(void) {
    http_types_http_router_error_t error;
    http_server_router_t router;
    http_server_server_t server;
    abi_string_t route = abi_string("/files/:name");
    check(http_server_router_new(&router, &error), &error);
    check(http_server_router_put(router, route, abi_string("handle_put"), &router, &error), &error);
    check(http_server_router_get(router, route, abi_string("handle_get"), &router, &error), &error);
    check(http_server_router_delete(router, route, abi_string("handle_trap"), &router, &error), &error);
    check(http_server_server_serve(abi_string(getenv("ADDRESS")), router, &server, &error), &error);
}

static bool respond(http_types_request_t req, http_types_response_t *ok, uint16_t status, abi_bytes_t body) {
    http_types_request_free(req);
    *ok = (http_types_response_t){.status = status, .body = {true, body}};
    return true;
}

static bool refuse(http_types_request_t req, http_types_response_t *ok, blob_store_error_t error) {
    abi_string_t text = error.unexpected_error;
    return respond(req, ok, 400, (abi_bytes_t){(const uint8_t *)text.ptr, text.len});
}

static bool begin(http_types_request_t req, blob_store_container_t *container, blob_store_write_stream_t *stream,
                  blob_store_error_t *error) {
    return blob_store_container_open(abi_string("files"), container, error) &&
           blob_store_container_write_object(*container, req.params.ptr[0].f1, stream, error) &&
           blob_store_write_stream_write(*stream, req.body.value, error);
}

static bool handle_put(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    blob_store_container_t container;
    blob_store_write_stream_t stream;
    blob_store_error_t error;
    (void)err;
    if (!begin(req, &container, &stream, &error)) return refuse(req, ok, error);
    if (!blob_store_write_stream_close(stream, &error)) return refuse(req, ok, error);
    return respond(req, ok, 200, (abi_bytes_t){0});
}

static bool handle_get(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    blob_store_container_t container;
    blob_store_read_stream_t stream;
    blob_store_error_t error;
    abi_option_bytes_t body;
    (void)err;
    if (!blob_store_container_open(abi_string("files"), &container, &error) ||
        !blob_store_container_read_object(container, req.params.ptr[0].f1, &stream, &error) ||
        !blob_store_read_stream_read(stream, UINT64_MAX, &body, &error)) {
        return refuse(req, ok, error);
    }
    return respond(req, ok, 200, body.is_some ? body.value : (abi_bytes_t){0});
}

static bool handle_trap(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    blob_store_container_t container;
    blob_store_write_stream_t stream;
    blob_store_error_t error;
    (void)err;
    if (!begin(req, &container, &stream, &error)) return refuse(req, ok, error);
    __builtin_trap();
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-put", handle_put)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-get", handle_get)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-trap", handle_trap)
