/* An HTTP server whose requests are answered by who booted it. tests/machine_http.py is that.
 *
 * Lines on standard input say what to do: `serve ADDRESS`, after lines `base BASE` and `GET PATTERN HANDLER` for the
 * routes that it is to have, and `stop`, which `bridge: stopped` on standard error answers. A base and a pattern are `=`
 * and the hexadecimal digits of their bytes.
 *
 * A handler puts its request into the store `requests`, under a key of its own, and looks for the answer in the store
 * `answers`, over and over. Both are in what speaks as Redis does. A request is the handler's name, method, URI, headers,
 * parameters and body, an answer what `read_answer` reads. Numbers have 32 bits and are little endian, a text has its
 * length before it, a list the number of its texts. */
#define _GNU_SOURCE /* for getentropy and usleep */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_handler.h"
#include "http_server.h"
#include "keyvalue.h"

/* Microseconds from one look for an answer to the next. */
enum { SOON = 500, LATER = 8000 };

static void end(const char *what, abi_string_t text) {
    fprintf(stderr, "bridge: %s: %.*s\n", what, (int)text.len, text.ptr);
    exit(4);
}

/* Requests on their way out. */

typedef struct {
    uint8_t *bytes;
    size_t length;
} packed_t;

static void add(packed_t *to, const void *bytes, size_t length) {
    to->bytes = realloc(to->bytes, to->length + length + 1);
    if (!to->bytes) abort();
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void add_number(packed_t *to, uint32_t number) {
    add(to, &number, sizeof number); /* WebAssembly is little endian */
}

static void add_text(packed_t *to, const void *bytes, size_t length) {
    add_number(to, length);
    add(to, bytes, length);
}

static void add_pairs(packed_t *to, abi_list_tuple2_string_string_t pairs) {
    add_number(to, 2 * pairs.len);
    for (size_t i = 0; i < pairs.len; i++) {
        add_text(to, pairs.ptr[i].f0.ptr, pairs.ptr[i].f0.len);
        add_text(to, pairs.ptr[i].f1.ptr, pairs.ptr[i].f1.len);
    }
}

static packed_t pack(const char *handler, http_types_request_t request) {
    packed_t packed = {0};
    add_text(&packed, handler, strlen(handler));
    add_number(&packed, request.method);
    add_text(&packed, request.uri.ptr, request.uri.len);
    add_pairs(&packed, request.headers);
    add_pairs(&packed, request.params);
    add_text(&packed, request.body.value.ptr, request.body.is_some ? request.body.value.len : 0);
    return packed;
}

/* Answers on their way in. What is read of one stays where it lies. */

static uint32_t read_number(const uint8_t **at) {
    uint32_t number;
    memcpy(&number, *at, sizeof number);
    *at += sizeof number;
    return number;
}

static abi_string_t read_text(const uint8_t **at) {
    size_t length = read_number(at);
    abi_string_t text = {(const char *)*at, length};
    *at += length;
    return text;
}

static abi_list_tuple2_string_string_t read_pairs(const uint8_t **at) {
    size_t count = read_number(at) / 2;
    abi_tuple2_string_string_t *pairs = malloc((count + 1) * sizeof *pairs);
    if (!pairs) abort();
    for (size_t i = 0; i < count; i++) {
        pairs[i].f0 = read_text(at);
        pairs[i].f1 = read_text(at);
    }
    return (abi_list_tuple2_string_string_t){pairs, count};
}

/* The length of a body, and what of it comes before the zeros at its end: tests have long ones of nothing else. */
static abi_bytes_t read_body(const uint8_t **at) {
    size_t length = read_number(at);
    abi_string_t begin = read_text(at);
    uint8_t *body = calloc(length + 1, 1);
    if (!body) abort();
    memcpy(body, begin.ptr, begin.len);
    return (abi_bytes_t){body, length};
}

enum { RESPONSE, ERROR, ERROR_WITH_STATUS, TRAP };

/* A kind, and then: the status, 1 or 0 for headers, which follow, and for a body; the case of an error and its text; an
 * error's status; nothing. */
static bool read_answer(const uint8_t *at, http_types_response_t *ok, http_types_http_error_t *err) {
    switch (read_number(&at)) {
    case RESPONSE:
        ok->status = read_number(&at);
        ok->headers.is_some = read_number(&at);
        if (ok->headers.is_some) ok->headers.value = read_pairs(&at);
        ok->body.is_some = read_number(&at);
        if (ok->body.is_some) ok->body.value = read_body(&at);
        return true;
    case ERROR:
        err->tag = read_number(&at);
        err->unexpected_error = read_text(&at); /* that of any case with a text */
        return false;
    case ERROR_WITH_STATUS:
        err->tag = HTTP_TYPES_HTTP_ERROR_STATUS_ERROR;
        err->status_error = read_number(&at);
        return false;
    default:
        __builtin_trap();
    }
}

/* Handlers. */

static keyvalue_t open_store(const char *name) {
    keyvalue_error_t error;
    keyvalue_t store;
    if (!keyvalue_open(abi_string(name), &store, &error)) end(name, error.unexpected_error);
    return store;
}

static bool handle(const char *handler, http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    keyvalue_t requests = open_store("requests"), answers = open_store("answers");
    keyvalue_error_t error;
    uint64_t number;
    char key[17];
    getentropy(&number, sizeof number);
    snprintf(key, sizeof key, "%016llx", (unsigned long long)number);
    packed_t packed = pack(handler, req);
    http_types_request_free(req);
    if (!keyvalue_set(requests, abi_string(key), (abi_bytes_t){packed.bytes, packed.length}, &error))
        end("set", error.unexpected_error);
    free(packed.bytes);
    abi_bytes_t answer;
    for (useconds_t pause = SOON; !keyvalue_get(answers, abi_string(key), &answer, &error);) {
        if (error.tag != KEYVALUE_ERROR_KEY_NOT_FOUND) end("get", error.unexpected_error);
        keyvalue_error_free(error);
        usleep(pause);
        if (pause < LATER) pause *= 2;
    }
    return read_answer(answer.ptr, ok, err);
}

#define HANDLER(name) \
    static bool name(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) { \
        return handle(#name, req, ok, err); \
    } \
    HTTP_HANDLER_HANDLE_HTTP_EXPORT(#name, name)

/* The names that the tests give their handlers. */
HANDLER(b)
HANDLER(bad)
HANDLER(e)
HANDLER(echo)
HANDLER(f)
HANDLER(fail)
HANDLER(g)
HANDLER(h)
HANDLER(hello)
HANDLER(large)
HANDLER(n)
HANDLER(s)
HANDLER(see)
HANDLER(slow)

/* The program. */

static void check(bool done, http_types_http_router_error_t error) {
    if (!done) end("server", error.unexpected_error);
}

/* The text that a word of the line stands for, which takes the word's place. */
static abi_string_t text_of(char *word) {
    size_t length = strlen(word) / 2;
    for (size_t i = 0; i < length; i++) {
        char digits[] = {word[1 + 2 * i], word[2 + 2 * i], 0};
        word[i] = strtoul(digits, NULL, 16);
    }
    return (abi_string_t){word, length};
}

static http_server_router_t begin_routes(char *base) {
    http_types_http_router_error_t error;
    http_server_router_t router;
    check(base ? http_server_router_new_with_base(text_of(base), &router, &error)
               : http_server_router_new(&router, &error),
          error);
    return router;
}

static http_server_router_t add_route(http_server_router_t router, char *line) {
    http_types_http_router_error_t error;
    abi_string_t pattern = text_of(strtok(NULL, " ")), handler = abi_string(strtok(NULL, " "));
    http_server_router_t added;
    bool done = !strcmp(line, "GET")    ? http_server_router_get(router, pattern, handler, &added, &error)
                : !strcmp(line, "PUT")  ? http_server_router_put(router, pattern, handler, &added, &error)
                : !strcmp(line, "POST") ? http_server_router_post(router, pattern, handler, &added, &error)
                                        : http_server_router_delete(router, pattern, handler, &added, &error);
    check(done, error);
    http_server_router_drop(router);
    return added;
}

int main(void) {
    static char line[20000];
    http_types_http_router_error_t error;
    http_server_router_t router = begin_routes(NULL);
    http_server_server_t server;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *word = strtok(line, " ");
        if (!strcmp(word, "serve")) {
            check(http_server_server_serve(abi_string(strtok(NULL, " ")), router, &server, &error), error);
            http_server_router_drop(router);
            router = begin_routes(NULL);
        } else if (!strcmp(word, "stop")) {
            check(http_server_server_stop(server, &error), error);
            http_server_server_drop(server);
            fputs("bridge: stopped\n", stderr);
        } else if (!strcmp(word, "base")) {
            http_server_router_drop(router);
            router = begin_routes(strtok(NULL, " "));
        } else {
            router = add_route(router, word);
        }
    }
}
