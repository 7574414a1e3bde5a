/* A server that counts its visitors. Each request is answered by an instance of its own, several at once and in several
 * processes: a lock makes reading the number and writing the next one a single step.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "distributed_locking.h"
#include "http_handler.h"
#include "http_server.h"
#include "keyvalue.h"

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
    http_server_router_t empty, router;
    http_types_http_router_error_t error;
    if (!http_server_router_new(&empty, &error)) fail("new router", error);
    if (!http_server_router_get(empty, abi_string("/count"), abi_string("handle_count"), &router, &error)) {
        fail("/count", error);
    }
    http_server_router_drop(empty);

    const char *address = getenv("ADDRESS");
    http_server_server_t server;
    if (!http_server_server_serve(abi_string(address ? address : "0.0.0.0:3000"), router, &server, &error)) {
        fail("serve", error);
    }
    http_server_router_drop(router);
    http_server_server_drop(server);
}

/* Every case of both errors is a text: this takes it over. */
static bool failed(abi_string_t text, http_types_http_error_t *err) {
    err->tag = HTTP_TYPES_HTTP_ERROR_UNEXPECTED_ERROR;
    err->unexpected_error = text;
    return false;
}

/* Adds one to the number in the store. */
static bool count(keyvalue_t store, unsigned long *number, http_types_http_error_t *err) {
    keyvalue_error_t cause;
    abi_bytes_t value;
    char text[32] = "0";
    if (keyvalue_get(store, abi_string("visitors"), &value, &cause)) {
        size_t size = value.len < sizeof text ? value.len : sizeof text - 1;
        memcpy(text, value.ptr, size);
        text[size] = 0;
        abi_bytes_free(value);
    } else if (cause.tag == KEYVALUE_ERROR_KEY_NOT_FOUND) {
        keyvalue_error_free(cause);
    } else {
        return failed(cause.unexpected_error, err);
    }
    *number = strtoul(text, NULL, 10) + 1;
    snprintf(text, sizeof text, "%lu", *number);
    return keyvalue_set(store, abi_string("visitors"), abi_bytes(text), &cause) ||
           failed(cause.unexpected_error, err);
}

static bool handle_count(http_types_request_t req, http_types_response_t *ok, http_types_http_error_t *err) {
    http_types_request_free(req);
    distributed_locking_t locks;
    distributed_locking_error_t cause;
    keyvalue_t store;
    keyvalue_error_t store_cause;
    if (!distributed_locking_open(abi_string("my-locks"), &locks, &cause)) return failed(cause.unexpected_error, err);
    if (!keyvalue_open(abi_string("my-container"), &store, &store_cause)) {
        return failed(store_cause.unexpected_error, err);
    }

    /* An error may leave the lock held, for no longer than this instance lives. */
    abi_bytes_t key;
    unsigned long number;
    if (!distributed_locking_lock(locks, abi_bytes("visitors"), &key, &cause)) {
        return failed(cause.unexpected_error, err);
    }
    if (!count(store, &number, err)) return false;
    if (!distributed_locking_unlock(locks, key, &cause)) return failed(cause.unexpected_error, err);
    abi_bytes_free(key);

    char text[32];
    snprintf(text, sizeof text, "%lu", number);
    *ok = (http_types_response_t){200, {0}, {true, abi_bytes_dup(abi_bytes(text))}};
    return true;
}

HTTP_HANDLER_HANDLE_HTTP_EXPORT("handle-count", handle_count)
