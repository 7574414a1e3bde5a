/* An HTTP server, and what its program does once it serves, as its arguments say: `server.wasm stop serve`, say. */
#define _XOPEN_SOURCE 500 /* for usleep */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_handler.h"
#include "http_server.h"

static void check(bool done, http_types_http_router_error_t *error) {
    if (done) return;
    fprintf(stderr, "%.*s\n", (int)error->unexpected_error.len, error->unexpected_error.ptr);
    exit(4);
}

static http_server_server_t serve(void) {
    static const char *routes[][2] = {
        {"/hello", "handle_hello"}, {"/count", "handle_count"}, {"/slow/:ms", "handle_slow"},
        {"/trap", "handle_trap"},   {"/exit", "handle_exit"},   {"/error", "handle_error"},
    };
    const char *address = getenv("ADDRESS");
    http_types_http_router_error_t error;
    http_server_router_t router;
    http_server_server_t server;
    check(http_server_router_new(&router, &error), &error);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        abi_string_t route = abi_string(routes[i][0]), handler = abi_string(routes[i][1]);
        check(http_server_router_get(router, route, handler, &router, &error), &error);
    }
    check(http_server_server_serve(abi_string(address), router, &server, &error), &error);
    return server;
}

int main(int argc, char **argv) {
    http_types_http_router_error_t error;
    http_server_server_t server = serve();
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "serve")) server = serve();
        if (!strcmp(argv[i], "stop")) check(http_server_server_stop(server, &error), &error);
        if (!strcmp(argv[i], "sleep")) sleep(60);
        if (!strcmp(argv[i], "read")) getchar();
        if (!strcmp(argv[i], "exit")) exit(3);
        if (!strcmp(argv[i], "trap")) __builtin_trap();
    }
}

static bool answer(http_types_request_t req, http_types_response_t *ok, const char *text) {
    http_types_request_free(req);
    ok->status = 200;
    ok->body = (abi_option_bytes_t){true, abi_bytes_dup(abi_bytes(text))};
    return true;
}

static bool handle_hello(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)err;
    return answer(req, ok, "hello");
}

/* How many requests this instance has answered. */
static bool handle_count(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    static int requests;
    char text[12];
    (void)err;
    snprintf(text, sizeof text, "%d", ++requests);
    return answer(req, ok, text);
}

static bool handle_slow(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    char digits[12];
    abi_string_t ms = req.params.ptr[0].f1;
    (void)err;
    fputs("slow\n", stderr);
    snprintf(digits, sizeof digits, "%.*s", (int)ms.len, ms.ptr);
    usleep(1000 * (useconds_t)atoi(digits));
    return answer(req, ok, "done");
}

static bool handle_trap(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)req, (void)ok, (void)err;
    __builtin_trap();
}

static bool handle_exit(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)req, (void)ok, (void)err;
    exit(5);
}

static bool handle_error(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)ok;
    http_types_request_free(req);
    err->tag = HTTP_TYPES_HTTP_ERROR_INVALID_URL;
    err->invalid_url = abi_string_dup(abi_string("so says the guest"));
    return false;
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-hello", handle_hello)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-count", handle_count)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-slow", handle_slow)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-trap", handle_trap)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-exit", handle_exit)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-error", handle_error)
