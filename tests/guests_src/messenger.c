/* Does with messages what its arguments say, one after the other: `sub:TOPIC`, `receive:TOPIC`, `pub:TOPIC:TEXT`,
 * `open:NAME`, `read`, `serve:ADDRESS`, `exit:CODE`, `trap`. An argument of one module among several begins with its
 * name: `a.wasm=pub:TOPIC:TEXT`. What comes of each is a line on standard output that begins with the module's name.
 *
 * It uses the name `shop`. The server has the routes /pub/:topic/:text and /receive/:topic. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_handler.h"
#include "http_server.h"
#include "messaging.h"

static const char *const CASES[] = {"payload-too-large",    "queue-or-topic-not-found", "insufficient-permissions",
                                    "service-unavailable",  "delivery-failed",          "connection-lost",
                                    "unsupported-message-format", "unexpected-error"};

static const char *module = "";
static messaging_pub_t pub;
static messaging_sub_t sub;
static bool opened;

static struct {
    const char *topic;
    messaging_subscription_token_t token;
} tokens[64];
static int count;

/* Says how an argument went, and ends what it holds. */
static void say(const char *argument, bool done, messaging_error_t *error) {
    printf("%s %s: %s\n", module, argument, done ? "done" : CASES[error->tag]);
    if (!done) messaging_error_free(*error);
    fflush(stdout);
}

static bool open_shop(messaging_error_t *error) {
    if (!opened) {
        if (!messaging_pub_open(abi_string("shop"), &pub, error)) return false;
        if (!messaging_sub_open(abi_string("shop"), &sub, error)) return false;
        opened = true;
    }
    return true;
}

static void publish(const char *argument, char *topic) {
    messaging_error_t error;
    char *text = strchr(topic, ':');
    *text++ = 0;
    bool done = open_shop(&error) && messaging_pub_publish(pub, abi_bytes(text), abi_string(topic), &error);
    say(argument, done, &error);
}

static void subscribe(const char *argument, const char *topic) {
    messaging_error_t error;
    bool done = open_shop(&error) && messaging_sub_subscribe(sub, abi_string(topic), &tokens[count].token, &error);
    if (done) tokens[count++].topic = topic;
    say(argument, done, &error);
}

static void receive(const char *argument, const char *topic) {
    messaging_error_t error;
    abi_bytes_t message;
    abi_string_t token = abi_string("no token");
    for (int i = 0; i < count; i++)
        if (!strcmp(tokens[i].topic, topic)) token = tokens[i].token;
    if (!open_shop(&error) || !messaging_sub_receive(sub, token, &message, &error)) {
        say(argument, false, &error);
        return;
    }
    printf("%s %s: %.*s\n", module, argument, (int)message.len, (const char *)message.ptr);
    fflush(stdout);
    abi_bytes_free(message);
}

static void open_name(const char *argument, const char *name) {
    messaging_error_t error;
    messaging_pub_t other;
    say(argument, messaging_pub_open(abi_string(name), &other, &error), &error);
}

static void check(bool done, http_types_http_router_error_t *error) {
    if (done) return;
    fprintf(stderr, "%.*s\n", (int)error->unexpected_error.len, error->unexpected_error.ptr);
    exit(4);
}

static void serve(const char *address) {
    http_types_http_router_error_t error;
    http_server_router_t router;
    http_server_server_t server;
    check(http_server_router_new(&router, &error), &error);
    check(http_server_router_get(router, abi_string("/pub/:topic/:text"), abi_string("handle_pub"), &router, &error),
          &error);
    check(http_server_router_get(router, abi_string("/receive/:topic"), abi_string("handle_receive"), &router, &error),
          &error);
    check(http_server_router_get(router, abi_string("/trap"), abi_string("handle_trap"), &router, &error), &error);
    check(http_server_server_serve(abi_string(address), router, &server, &error), &error);
}

static void act(char *argument) {
    char *whole = strdup(argument);
    if (!strncmp(argument, "pub:", 4)) publish(whole, argument + 4);
    if (!strncmp(argument, "sub:", 4)) subscribe(whole, argument + 4);
    if (!strncmp(argument, "receive:", 8)) receive(whole, argument + 8);
    if (!strncmp(argument, "open:", 5)) open_name(whole, argument + 5);
    if (!strncmp(argument, "serve:", 6)) serve(argument + 6);
    if (!strncmp(argument, "exit:", 5)) exit(atoi(argument + 5));
    if (!strcmp(argument, "trap")) __builtin_trap();
    if (!strcmp(argument, "read")) {
        printf("%s read: %d\n", module, getchar());
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    module = argv[0];
    for (int i = 1; i < argc; i++) {
        char *at = strchr(argv[i], '=');
        if (at == NULL) act(argv[i]);
        else if (!strncmp(argv[i], module, strlen(module)) && argv[i] + strlen(module) == at) act(at + 1);
    }
}

/* Handlers. */

static bool answer(http_types_response_t *ok, const char *text, size_t length) {
    abi_bytes_t body = {(uint8_t *)text, length};
    ok->status = 200;
    ok->body = (abi_option_bytes_t){true, abi_bytes_dup(body)};
    return true;
}

static bool answer_error(http_types_response_t *ok, messaging_error_t *error) {
    const char *text = CASES[error->tag];
    messaging_error_free(*error);
    return answer(ok, text, strlen(text));
}

static bool handle_pub(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    messaging_error_t error;
    abi_string_t topic = req.params.ptr[0].f1, text = req.params.ptr[1].f1;
    (void)err;
    abi_bytes_t message = {(uint8_t *)text.ptr, text.len};
    if (!open_shop(&error) || !messaging_pub_publish(pub, message, topic, &error)) return answer_error(ok, &error);
    return answer(ok, "published", 9);
}

static bool handle_receive(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    messaging_error_t error;
    messaging_subscription_token_t token;
    abi_bytes_t message;
    (void)err;
    if (!open_shop(&error) || !messaging_sub_subscribe(sub, req.params.ptr[0].f1, &token, &error))
        return answer_error(ok, &error);
    fputs("subscribed\n", stderr);
    if (!messaging_sub_receive(sub, token, &message, &error)) return answer_error(ok, &error);
    return answer(ok, (const char *)message.ptr, message.len);
}

static bool handle_trap(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    (void)req, (void)ok, (void)err;
    __builtin_trap();
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-pub", handle_pub)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-receive", handle_receive)
HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-trap", handle_trap)
