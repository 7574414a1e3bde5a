/* Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes into
 * a store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_handler.h"
#include "http_server.h"
#include "keyvalue.h"

static _Noreturn void fail(const char *doing) {
    fprintf(stderr, "%s failed\n", doing);
    exit(1);
}

int main(void) {
    http_server_router_t router, with_route;
    http_server_server_t server;
    http_types_http_router_error_t error;
    const char *address = getenv("ADDRESS");
    if (!http_server_router_new(&router, &error)) fail("new router");
    if (!http_server_router_get(router, abi_string("/hello/:name"), abi_string("handle-hello"), &with_route, &error)) {
        fail("route");
    }
    if (!http_server_server_serve(abi_string(address ? address : "127.0.0.1:3000"), with_route, &server, &error)) {
        fail("serve");
    }
}

/* What the route's parameter `name` matched. */
static abi_string_t visitor(http_types_params_t params) {
    for (size_t i = 0; i < params.len; i++) {
        if (params.ptr[i].f0.len == 4 && memcmp(params.ptr[i].f0.ptr, "name", 4) == 0) return params.ptr[i].f1;
    }
    return (abi_string_t){0};
}

/* Counts one more visit; returns how many there were. Two visits at the same moment may count as one. */
static bool count(abi_string_t name, long *visits, keyvalue_error_t *error) {
    keyvalue_t store;
    abi_bytes_t value;
    char text[24] = "0";
    if (!keyvalue_open(abi_string("visits"), &store, error)) return false;
    if (keyvalue_get(store, name, &value, error)) {
        memcpy(text, value.ptr, value.len < sizeof text ? value.len : sizeof text - 1);
        abi_bytes_free(value);
    } else if (error->tag == KEYVALUE_ERROR_KEY_NOT_FOUND) {
        keyvalue_error_free(*error);
    } else {
        keyvalue_drop(store);
        return false;
    }
    *visits = strtol(text, NULL, 10) + 1;
    snprintf(text, sizeof text, "%ld", *visits);
    bool done = keyvalue_set(store, name, abi_bytes(text), error);
    keyvalue_drop(store);
    return done;
}

static bool handle_hello(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    char text[64];
    long visits;
    keyvalue_error_t error;
    bool done = count(visitor(req.params), &visits, &error);
    http_types_request_free(req);
    if (!done) {
        err->tag = HTTP_TYPES_HTTP_ERROR_UNEXPECTED_ERROR;
        err->unexpected_error = error.unexpected_error;
        return false;
    }
    snprintf(text, sizeof text, "hello, this is visit %ld\n", visits);
    *ok = (http_types_response_t){.status = 200, .body = {true, abi_bytes_dup(abi_bytes(text))}};
    return true;
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-hello", handle_hello)
