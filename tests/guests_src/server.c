/* An HTTP server, and what its program does once it serves, as its arguments say: `server.wasm stop serve`, say. */
#define _XOPEN_SOURCE 500 /* for usleep */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_handler.h"
#include "http_server.h"

static void check(bool done, http_error_t *error) {
    if (done) return;
    fprintf(stderr, "%.*s\n", (int)error->text.len, error->text.ptr);
    exit(4);
}

static http_server_t serve(void) {
    static const char *routes[][2] = {
        {"/hello", "handle_hello"}, {"/count", "handle_count"}, {"/slow/:ms", "handle_slow"},
        {"/trap", "handle_trap"},   {"/exit", "handle_exit"},   {"/error", "handle_error"},
    };
    const char *address = getenv("ADDRESS");
    http_error_t error;
    http_router_t router;
    http_server_t server;
    check(http_router_new(&router, &error), &error);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        check(http_router_get(router, abi_string(routes[i][0]), abi_string(routes[i][1]), &router, &error), &error);
    }
    check(http_server_serve(abi_string(address), router, &server, &error), &error);
    return server;
}

int main(int argc, char **argv) {
    http_error_t error;
    http_server_t server = serve();
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "serve")) server = serve();
        if (!strcmp(argv[i], "stop")) check(http_server_stop(server, &error), &error);
        if (!strcmp(argv[i], "sleep")) sleep(60);
        if (!strcmp(argv[i], "read")) getchar();
        if (!strcmp(argv[i], "exit")) exit(3);
        if (!strcmp(argv[i], "trap")) __builtin_trap();
    }
}

static bool answer(http_response_t *response, const char *text) {
    *response = (http_response_t){.status = 200, .body = http_handler_body(abi_bytes(text))};
    return true;
}

static bool handle_hello(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)request, (void)error;
    return answer(response, "hello");
}

/* How many requests this instance has answered. */
static bool handle_count(http_request_t *request, http_response_t *response, http_error_t *error) {
    static int requests;
    char text[12];
    (void)request, (void)error;
    snprintf(text, sizeof text, "%d", ++requests);
    return answer(response, text);
}

static bool handle_slow(http_request_t *request, http_response_t *response, http_error_t *error) {
    char digits[12];
    abi_string_t ms = http_field(request->params, abi_string("ms"));
    (void)error;
    fputs("slow\n", stderr);
    snprintf(digits, sizeof digits, "%.*s", (int)ms.len, ms.ptr);
    usleep(1000 * (useconds_t)atoi(digits));
    return answer(response, "done");
}

static bool handle_trap(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)request, (void)response, (void)error;
    __builtin_trap();
}

static bool handle_exit(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)request, (void)response, (void)error;
    exit(5);
}

static bool handle_error(http_request_t *request, http_response_t *response, http_error_t *error) {
    (void)request, (void)response;
    abi_bytes_t text = http_handler_body(abi_bytes("so says the guest")).value;
    *error = (http_error_t){.kind = HTTP_INVALID_URL, .text = {(const char *)text.ptr, text.len}};
    return false;
}

HTTP_HANDLER("handle-hello", handle_hello)
HTTP_HANDLER("handle-count", handle_count)
HTTP_HANDLER("handle-slow", handle_slow)
HTTP_HANDLER("handle-trap", handle_trap)
HTTP_HANDLER("handle-exit", handle_exit)
HTTP_HANDLER("handle-error", handle_error)
