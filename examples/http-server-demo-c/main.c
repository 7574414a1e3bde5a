/* A server with a handler for every kind of route. Each request is answered by an instance of its own: what should
 * outlive it goes into a store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_handler.h"
#include "http_server.h"
#include "keyvalue.h"

static const struct {
    http_router_add_t *add;
    const char *route;
    const char *handler;
} routes[] = {
    {http_router_get, "/hello", "handle_hello"},
    {http_router_get, "/person/:name", "handle_person"},
    {http_router_get, "/get", "handle_get"},
    {http_router_put, "/set", "handle_set"},
    {http_router_post, "/upload", "handle_upload"},
    {http_router_delete, "/delete-file", "handle_delete_file"},
};

static _Noreturn void fail(const char *doing, http_error_t error) {
    if (error.kind == HTTP_STATUS_ERROR) fprintf(stderr, "%s: status %d\n", doing, error.status);
    else fprintf(stderr, "%s: %.*s\n", doing, (int)error.text.len, error.text.ptr);
    exit(1);
}

int main(void) {
    http_router_t router;
    http_error_t error;
    if (!http_router_new(&router, &error)) fail("new router", error);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        http_router_t added;
        abi_string_t route = abi_string(routes[i].route);
        if (!routes[i].add(router, route, abi_string(routes[i].handler), &added, &error)) fail(route.ptr, error);
        http_router_drop(router);
        router = added;
    }

    const char *address = getenv("ADDRESS");
    puts("guest starting server");
    http_server_t server;
    if (!http_server_serve(abi_string(address ? address : "0.0.0.0:3000"), router, &server, &error)) {
        fail("serve", error);
    }
    puts("guest moving on");
    http_router_drop(router);
    http_server_drop(server);
}

/* Every answer carries the headers of its request. */
static bool respond(http_request_t *request, http_response_t *response, uint16_t status, http_body_t body) {
    *response = (http_response_t){status, http_handler_take_headers(request), body};
    return true;
}

static bool store_failed(keyvalue_error_t cause, http_error_t *error) {
    *error = (http_error_t){.kind = HTTP_UNEXPECTED_ERROR, .text = cause.text};
    return false;
}

static bool handle_hello(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)error;
    return respond(request, response, 200, http_handler_body(abi_bytes("hello")));
}

static bool handle_person(http_request_t *request, http_response_t *response, http_error_t *error) {
    static const char greeting[] = {'h', 'e', 'l', 'l', 'o', ' '};
    (void)error;
    abi_string_t name = http_field(request->params, abi_string("name"));
    size_t size = sizeof greeting + name.len;
    uint8_t *text = canonical_abi_realloc(NULL, 0, 1, size);
    memcpy(text, greeting, sizeof greeting);
    memcpy(text + sizeof greeting, name.ptr, name.len);
    return respond(request, response, 200, (http_body_t){true, {text, size}});
}

static bool handle_get(http_request_t *request, http_response_t *response, http_error_t *error) {
    keyvalue_t store;
    keyvalue_error_t cause;
    if (!keyvalue_open(abi_string("my-container"), &store, &cause)) return store_failed(cause, error);

    abi_bytes_t value;
    bool found = keyvalue_get(store, abi_string("key"), &value, &cause);
    keyvalue_drop(store);
    if (found) return respond(request, response, 200, (http_body_t){true, value});
    if (cause.kind != KEYVALUE_KEY_NOT_FOUND) return store_failed(cause, error);
    keyvalue_error_free(cause);
    return respond(request, response, 404, http_handler_body(abi_bytes("Key not found")));
}

static bool handle_set(http_request_t *request, http_response_t *response, http_error_t *error) {
    keyvalue_t store;
    keyvalue_error_t cause;
    if (!keyvalue_open(abi_string("my-container"), &store, &cause)) return store_failed(cause, error);

    bool done = !request->body.is_some || keyvalue_set(store, abi_string("key"), request->body.value, &cause);
    keyvalue_drop(store);
    if (!done) return store_failed(cause, error);
    return respond(request, response, 204, (http_body_t){0});
}

static bool handle_upload(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)error;
    return respond(request, response, 200, http_handler_take_body(request));
}

static bool handle_delete_file(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)error;
    return respond(request, response, 200, http_handler_take_body(request));
}

HTTP_HANDLER("handle-hello", handle_hello)
HTTP_HANDLER("handle-person", handle_person)
HTTP_HANDLER("handle-get", handle_get)
HTTP_HANDLER("handle-set", handle_set)
HTTP_HANDLER("handle-upload", handle_upload)
HTTP_HANDLER("handle-delete-file", handle_delete_file)
