/* A reactor: no `main`, but a function that starts the server and lets the host go on. */
#include <stdlib.h>

#include "http_handler.h"
#include "http_server.h"

/* expected<unit, string> */
typedef struct {
    bool is_err;
    abi_string_t error;
} init_result_t;

static bool start(http_error_t *error) {
    const char *address = getenv("ADDRESS");
    http_router_t empty, router;
    http_server_t server;
    if (!http_router_new(&empty, error)) return false;
    if (!http_router_get(empty, abi_string("/hello"), abi_string("handle_hello"), &router, error)) return false;
    if (!http_server_serve(abi_string(address ? address : "0.0.0.0:3000"), router, &server, error)) return false;
    http_router_drop(empty);
    http_router_drop(router);
    http_server_drop(server);
    return true;
}

__attribute__((export_name("on-server-init")))
const init_result_t *on_server_init(void) {
    static init_result_t result;
    http_error_t error;
    result.is_err = !start(&error);
    if (result.is_err) result.error = error.kind == HTTP_STATUS_ERROR ? (abi_string_t){0} : error.text;
    return &result;
}

static bool handle_hello(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)request;
    (void)error;
    response->status = 200;
    response->body = http_handler_body(abi_bytes("hello"));
    return true;
}

HTTP_HANDLER("handle-hello", handle_hello)
