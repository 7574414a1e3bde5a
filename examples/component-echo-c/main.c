/* A component of WASI 0.2 that sends the body of each request back while it comes, however long it is. */
#include <stdlib.h>

#include "guest.h"

enum { READ = 64 << 10, WRITTEN_AT_ONCE = 4096 /* what blocking-write-and-flush takes at most */ };

/* Writes bytes in pieces; false where nobody receives them any more. */
static bool write_all(wasi_io_streams_borrow_output_stream_t output, guest_list_u8_t bytes) {
    wasi_io_streams_stream_error_t gone;
    for (size_t at = 0; at < bytes.len; at += WRITTEN_AT_ONCE) {
        size_t left = bytes.len - at;
        guest_list_u8_t piece = {bytes.ptr + at, left < WRITTEN_AT_ONCE ? left : WRITTEN_AT_ONCE};
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(output, &piece, &gone)) return false;
    }
    return true;
}

static void copy(wasi_io_streams_borrow_input_stream_t input, wasi_io_streams_borrow_output_stream_t output) {
    wasi_io_streams_stream_error_t ended;
    guest_list_u8_t bytes;
    bool received = true;
    while (received && wasi_io_streams_method_input_stream_blocking_read(input, READ, &bytes, &ended)) {
        received = write_all(output, bytes);
        guest_list_u8_free(&bytes);
    }
}

void exports_wasi_http_incoming_handler_handle(wasi_http_types_own_incoming_request_t request,
                                               wasi_http_types_own_response_outparam_t out) {
    wasi_http_types_own_incoming_body_t incoming;
    wasi_io_streams_own_input_stream_t input;
    if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request), &incoming) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(incoming), &input))
        abort();
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_own_outgoing_body_t outgoing;
    wasi_io_streams_own_output_stream_t output;
    if (!wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response), &outgoing) ||
        !wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(outgoing), &output))
        abort();
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);

    copy(wasi_io_streams_borrow_input_stream(input), wasi_io_streams_borrow_output_stream(output));

    wasi_io_streams_input_stream_drop_own(input);
    wasi_http_types_incoming_body_drop_own(incoming);
    wasi_http_types_incoming_request_drop_own(request);
    wasi_io_streams_output_stream_drop_own(output);
    wasi_http_types_error_code_t error;
    wasi_http_types_static_outgoing_body_finish(outgoing, NULL, &error);
}
