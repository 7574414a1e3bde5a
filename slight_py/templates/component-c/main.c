/* Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes into
 * a store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void answer(wasi_http_types_own_response_outparam_t out, uint16_t status, const char *text) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(response);
    wasi_http_types_own_outgoing_body_t body;
    if (!wasi_http_types_method_outgoing_response_set_status_code(borrowed, status)) abort();
    if (!wasi_http_types_method_outgoing_response_body(borrowed, &body)) abort();

    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);

    wasi_io_streams_own_output_stream_t stream;
    if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) abort();
    guest_list_u8_t bytes = {(uint8_t *)text, strlen(text)};
    wasi_io_streams_stream_error_t broken; /* whoever asked may be gone: there is nothing to do about that */
    wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream), &bytes,
                                                                  &broken);
    wasi_io_streams_output_stream_drop_own(stream);
    wasi_http_types_error_code_t error;
    wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
}

/* Counts one more visit; `visits` is how many there were. */
static bool count(guest_string_t name, int64_t *visits, wasi_keyvalue_store_error_t *error) {
    guest_string_t store;
    wasi_keyvalue_store_own_bucket_t bucket;
    guest_string_set(&store, "visits");
    if (!wasi_keyvalue_store_open(&store, &bucket, error)) return false;
    bool done =
        wasi_keyvalue_atomics_increment(wasi_keyvalue_store_borrow_bucket(bucket), &name, 1, visits, error);
    wasi_keyvalue_store_bucket_drop_own(bucket);
    return done;
}

void exports_wasi_http_incoming_handler_handle(wasi_http_types_own_incoming_request_t request,
                                               wasi_http_types_own_response_outparam_t out) {
    static const char PREFIX[] = "/hello/";
    const size_t prefix = sizeof PREFIX - 1;
    guest_string_t path;
    if (!wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request),
                                                                 &path) ||
        path.len < prefix || memcmp(path.ptr, PREFIX, prefix) != 0) {
        answer(out, 404, "there is /hello/NAME\n");
        return;
    }
    char text[64];
    int64_t visits;
    wasi_keyvalue_store_error_t error;
    if (count((guest_string_t){path.ptr + prefix, path.len - prefix}, &visits, &error)) {
        snprintf(text, sizeof text, "hello, this is visit %lld\n", (long long)visits);
        answer(out, 200, text);
    } else {
        answer(out, 500, "the visits can't be counted\n");
    }
}
