#include "http_server.h"

#define IMPORT(function) __attribute__((import_module("http-server"), import_name(function)))
#define IMPORT_DROP(resource) \
    __attribute__((import_module("canonical_abi"), import_name("resource_drop_" resource)))

/* expected<_, http-router-error>, laid out as the host writes it. */
typedef struct {
    bool is_err;
    union {
        http_router_t router;
        http_server_t server;
        http_error_t error;
    };
} result_t;

_Static_assert(offsetof(result_t, router) == 4, "the payload of an expected<_, http-router-error>");
_Static_assert(offsetof(result_t, error.text) == 8, "the text of an http-router-error");
_Static_assert(offsetof(result_t, error.status) == 8, "the status of an http-router-error");
_Static_assert(sizeof(result_t) == 16, "an expected<_, http-router-error>");

typedef void import_add_t(uint32_t router, const char *route, size_t route_len, const char *handler,
                          size_t handler_len, result_t *result);

IMPORT("router::new") void import_router_new(result_t *result);
IMPORT("router::new-with-base")
void import_router_new_with_base(const char *base, size_t base_len, result_t *result);
IMPORT("router::get") import_add_t import_router_get;
IMPORT("router::put") import_add_t import_router_put;
IMPORT("router::post") import_add_t import_router_post;
IMPORT("router::delete") import_add_t import_router_delete;
IMPORT_DROP("router") void import_router_drop(uint32_t router);

IMPORT("server::serve")
void import_server_serve(const char *address, size_t address_len, uint32_t router, result_t *result);
IMPORT("server::stop") void import_server_stop(uint32_t server, result_t *result);
IMPORT_DROP("server") void import_server_drop(uint32_t server);

static bool take_router(result_t result, http_router_t *router, http_error_t *error) {
    if (result.is_err) *error = result.error;
    else *router = result.router;
    return !result.is_err;
}

bool http_router_new(http_router_t *router, http_error_t *error) {
    result_t result;
    import_router_new(&result);
    return take_router(result, router, error);
}

bool http_router_new_with_base(abi_string_t base, http_router_t *router, http_error_t *error) {
    result_t result;
    import_router_new_with_base(base.ptr, base.len, &result);
    return take_router(result, router, error);
}

static bool add(import_add_t *import, http_router_t router, abi_string_t route, abi_string_t handler,
                http_router_t *added, http_error_t *error) {
    result_t result;
    import(router.handle, route.ptr, route.len, handler.ptr, handler.len, &result);
    return take_router(result, added, error);
}

bool http_router_get(http_router_t router, abi_string_t route, abi_string_t handler, http_router_t *added,
                     http_error_t *error) {
    return add(import_router_get, router, route, handler, added, error);
}

bool http_router_put(http_router_t router, abi_string_t route, abi_string_t handler, http_router_t *added,
                     http_error_t *error) {
    return add(import_router_put, router, route, handler, added, error);
}

bool http_router_post(http_router_t router, abi_string_t route, abi_string_t handler, http_router_t *added,
                      http_error_t *error) {
    return add(import_router_post, router, route, handler, added, error);
}

bool http_router_delete(http_router_t router, abi_string_t route, abi_string_t handler, http_router_t *added,
                        http_error_t *error) {
    return add(import_router_delete, router, route, handler, added, error);
}

void http_router_drop(http_router_t router) {
    import_router_drop(router.handle);
}

bool http_server_serve(abi_string_t address, http_router_t router, http_server_t *server, http_error_t *error) {
    result_t result;
    import_server_serve(address.ptr, address.len, router.handle, &result);
    if (result.is_err) *error = result.error;
    else *server = result.server;
    return !result.is_err;
}

bool http_server_stop(http_server_t server, http_error_t *error) {
    result_t result;
    import_server_stop(server.handle, &result);
    if (result.is_err) *error = result.error;
    return !result.is_err;
}

void http_server_drop(http_server_t server) {
    import_server_drop(server.handle);
}
