/* A server with a handler for every kind of route. Each request is answered by an instance of its own: what should
 * outlive it goes into a store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_handler.h"
#include "http_server.h"
#include "keyvalue.h"

typedef bool add_route_t(http_server_router_t router, abi_string_t route, abi_string_t handler,
                         http_server_router_t *added, http_types_http_router_error_t *error);

static const struct {
    add_route_t *add;
    const char *route;
    const char *handler;
} routes[] = {
    {http_server_router_get, "/hello", "handle_hello"},
    {http_server_router_get, "/person/:name", "handle_person"},
    {http_server_router_get, "/get", "handle_get"},
    {http_server_router_put, "/set", "handle_set"},
    {http_server_router_post, "/upload", "handle_upload"},
    {http_server_router_delete, "/delete-file", "handle_delete_file"},
};

/* Every case of the error but one is a text, and they share their place. */
static _Noreturn void fail(const char *doing, http_types_http_router_error_t error) {
    if (error.tag == HTTP_TYPES_HTTP_ROUTER_ERROR_STATUS_ERROR) {
        fprintf(stderr, "%s: status %d\n", doing, error.status_error);
    } else {
        fprintf(stderr, "%s: %.*s\n", doing, (int)error.unexpected_error.len, error.unexpected_error.ptr);
    }
    exit(1);
}

int main(void) {
    http_server_router_t router;
    http_types_http_router_error_t error;
    if (!http_server_router_new(&router, &error)) fail("new router", error);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        http_server_router_t added;
        abi_string_t route = abi_string(routes[i].route);
        if (!routes[i].add(router, route, abi_string(routes[i].handler), &added, &error)) fail(route.ptr, error);
        http_server_router_drop(router);
        router = added;
    }

    const char *address = getenv("ADDRESS");
    puts("guest starting server");
    http_server_server_t server;
    if (!http_server_server_serve(abi_string(address ? address : "0.0.0.0:3000"), router, &server, &error)) {
        fail("serve", error);
    }
    puts("guest moving on");
    http_server_router_drop(router);
    http_server_server_drop(server);
}

/* A handler owns its request, so it ends with one of these two, which take the request over. */

/* Answers with `body`, and with the headers of the request. */
static bool respond(http_types_request_t req, uint16_t status, abi_option_bytes_t body, http_types_response_t *ok) {
    *ok = (http_types_response_t){status, {true, req.headers}, body};
    req.headers = (http_types_headers_t){0};
    http_types_request_free(req);
    return true;
}

/* Fails with the text of `cause`: every case of that is one. */
static bool store_failed(http_types_request_t req, keyvalue_error_t cause, http_types_http_error_t *err) {
    http_types_request_free(req);
    err->tag = HTTP_TYPES_HTTP_ERROR_UNEXPECTED_ERROR;
    err->unexpected_error = cause.unexpected_error;
    return false;
}

/* A body that holds a copy of `text`. */
static abi_option_bytes_t text_body(const char *text) {
    return (abi_option_bytes_t){true, abi_bytes_dup(abi_bytes(text))};
}

/* What the route's parameter `name` matched, or an empty text: a view into `params`. */
static abi_string_t param(http_types_params_t params, const char *name) {
    for (size_t i = 0; i < params.len; i++) {
        abi_string_t key = params.ptr[i].f0;
        if (key.len == strlen(name) && memcmp(key.ptr, name, key.len) == 0) return params.ptr[i].f1;
    }
    return (abi_string_t){0};
}

static bool handle_hello(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    return respond(req, 200, text_body("hello"), ok);
}

static bool handle_person(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    static const char greeting[] = {'h', 'e', 'l', 'l', 'o', ' '};
    (void)err;
    abi_string_t name = param(req.params, "name");
    size_t size = sizeof greeting + name.len;
    uint8_t *text = canonical_abi_realloc(NULL, 0, 1, size);
    memcpy(text, greeting, sizeof greeting);
    memcpy(text + sizeof greeting, name.ptr, name.len);
    return respond(req, 200, (abi_option_bytes_t){true, {text, size}}, ok);
}

static bool handle_get(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    keyvalue_t store;
    keyvalue_error_t cause;
    if (!keyvalue_open(abi_string("my-container"), &store, &cause)) return store_failed(req, cause, err);

    abi_bytes_t value;
    bool found = keyvalue_get(store, abi_string("key"), &value, &cause);
    keyvalue_drop(store);
    if (found) return respond(req, 200, (abi_option_bytes_t){true, value}, ok);
    if (cause.tag != KEYVALUE_ERROR_KEY_NOT_FOUND) return store_failed(req, cause, err);
    keyvalue_error_free(cause);
    return respond(req, 404, text_body("Key not found"), ok);
}

static bool handle_set(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    keyvalue_t store;
    keyvalue_error_t cause;
    if (!keyvalue_open(abi_string("my-container"), &store, &cause)) return store_failed(req, cause, err);

    bool done = !req.body.is_some || keyvalue_set(store, abi_string("key"), req.body.value, &cause);
    keyvalue_drop(store);
    if (!done) return store_failed(req, cause, err);
    return respond(req, 204, (abi_option_bytes_t){0}, ok);
}

/* Answers with the body of the request. */
static bool echo(http_types_request_t req, http_types_response_t *ok) {
    abi_option_bytes_t body = req.body;
    req.body = (abi_option_bytes_t){0};
    return respond(req, 200, body, ok);
}

static bool handle_upload(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    return echo(req, ok);
}

static bool handle_delete_file(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    return echo(req, ok);
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-hello", handle_hello)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-person", handle_person)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-get", handle_get)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-set", handle_set)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-upload", handle_upload)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-delete-file", handle_delete_file)
