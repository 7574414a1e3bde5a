/* A component that changes values of the store "values" in one step, by the path of the request: /KEY?add adds 1 and
 * answers with the sum, /KEY?swap appends an `x` by compare and swap, tried again until it succeeds, and /KEY answers with
 * the value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void answer(wasi_http_types_own_response_outparam_t out, uint16_t status, guest_list_u8_t text) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(response);
    wasi_http_types_own_outgoing_body_t body;
    wasi_http_types_method_outgoing_response_set_status_code(borrowed, status);
    wasi_http_types_method_outgoing_response_body(borrowed, &body);
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);
    wasi_io_streams_own_output_stream_t stream;
    wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream);
    wasi_io_streams_stream_error_t broken;
    wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream), &text,
                                                                  &broken);
    wasi_io_streams_output_stream_drop_own(stream);
    wasi_http_types_error_code_t error;
    wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
}

static void fail(wasi_http_types_own_response_outparam_t out, const wasi_keyvalue_store_error_t *error) {
    if (error->tag == WASI_KEYVALUE_STORE_ERROR_OTHER) {
        answer(out, 500, (guest_list_u8_t){error->val.other.ptr, error->val.other.len});
    } else {
        answer(out, error->tag == WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED ? 403 : 404, (guest_list_u8_t){0});
    }
}

static void append(wasi_http_types_own_response_outparam_t out, wasi_keyvalue_store_borrow_bucket_t bucket,
                   guest_string_t key) {
    static uint8_t text[1000];
    wasi_keyvalue_store_error_t error;
    wasi_keyvalue_atomics_own_cas_t cas;
    if (!wasi_keyvalue_atomics_static_cas_new(bucket, &key, &cas, &error)) return fail(out, &error);
    for (;;) {
        guest_option_list_u8_t now;
        if (!wasi_keyvalue_atomics_method_cas_current(wasi_keyvalue_atomics_borrow_cas(cas), &now, &error)) {
            return fail(out, &error);
        }
        size_t len = now.is_some ? now.val.len : 0;
        if (len) memcpy(text, now.val.ptr, len);
        text[len] = 'x';
        guest_list_u8_t longer = {text, len + 1};
        wasi_keyvalue_atomics_cas_error_t failure;
        if (wasi_keyvalue_atomics_swap(cas, &longer, &failure)) return answer(out, 200, longer);
        if (failure.tag == WASI_KEYVALUE_ATOMICS_CAS_ERROR_STORE_ERROR) return fail(out, &failure.val.store_error);
        cas = failure.val.cas_failed;
    }
}

void exports_wasi_http_incoming_handler_handle(wasi_http_types_own_incoming_request_t request,
                                               wasi_http_types_own_response_outparam_t out) {
    guest_string_t name, path;
    guest_string_set(&name, "values");
    wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request), &path);
    uint8_t *question = memchr(path.ptr, '?', path.len);
    guest_string_t key = {path.ptr + 1, (question ? (size_t)(question - path.ptr) : path.len) - 1};
    wasi_keyvalue_store_error_t error;
    wasi_keyvalue_store_own_bucket_t store;
    if (!wasi_keyvalue_store_open(&name, &store, &error)) return fail(out, &error);
    wasi_keyvalue_store_borrow_bucket_t bucket = wasi_keyvalue_store_borrow_bucket(store);
    if (!question) {
        guest_option_list_u8_t value;
        if (!wasi_keyvalue_store_method_bucket_get(bucket, &key, &value, &error)) return fail(out, &error);
        answer(out, value.is_some ? 200 : 204, value.is_some ? value.val : (guest_list_u8_t){0});
    } else if (question[1] == 'a') {
        char text[32];
        int64_t sum;
        if (!wasi_keyvalue_atomics_increment(bucket, &key, 1, &sum, &error)) return fail(out, &error);
        int len = snprintf(text, sizeof text, "%lld", (long long)sum);
        answer(out, 200, (guest_list_u8_t){(uint8_t *)text, (size_t)len});
    } else {
        append(out, bucket, key);
    }
}
