/* A reactor: no `main`, but a function that starts the server and lets the host go on. */
#include <stdlib.h>

#include "http_handler.h"
#include "http_server.h"
#include "http_server_export.h"

static bool start(http_types_http_router_error_t *error) {
    const char *address = getenv("ADDRESS");
    http_server_router_t empty, router;
    http_server_server_t server;
    if (!http_server_router_new(&empty, error)) return false;
    if (!http_server_router_get(empty, abi_string("/hello"), abi_string("handle_hello"), &router, error)) return false;
    if (!http_server_server_serve(abi_string(address ? address : "0.0.0.0:3000"), router, &server, error)) return false;
    http_server_router_drop(empty);
    http_server_router_drop(router);
    http_server_server_drop(server);
    return true;
}

/* The text of the error becomes the host's. */
static bool on_server_init(abi_string_t *err) {
    http_types_http_router_error_t error;
    if (start(&error)) return true;
    if (error.tag != HTTP_TYPES_HTTP_ROUTER_ERROR_STATUS_ERROR) *err = error.unexpected_error;
    return false;
}

static bool handle_hello(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    http_types_request_free(req);
    ok->status = 200;
    ok->body = (abi_option_bytes_t){true, abi_bytes_dup(abi_bytes("hello"))};
    return true;
}

HTTP_SERVER_EXPORT_ON_SERVER_INIT_EXPORT("on-server-init", on_server_init)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-hello", handle_hello)
