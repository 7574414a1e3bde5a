/* An HTTP server whose routes lead to functions that the guest exports: wit/http-server.wit for a guest in C.
 *
 * Every function that can fail returns true and sets its result, or returns false and sets `error`. The caller frees
 * either.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http_types.h"

typedef struct {
    uint32_t handle;
} http_router_t;

typedef struct {
    uint32_t handle;
} http_server_t;

/* Makes a router without routes. */
bool http_router_new(http_router_t *router, http_error_t *error);

/* Makes a router without routes whose later ones all begin with `base`. */
bool http_router_new_with_base(abi_string_t base, http_router_t *router, http_error_t *error);

/* Each makes another router, with one more route: `handler` is the name of a function that the guest exports, in snake
 * or in kebab case. `router` stays as it was.
 */
typedef bool http_router_add_t(http_router_t router, abi_string_t route, abi_string_t handler, http_router_t *added,
                               http_error_t *error);
http_router_add_t http_router_get;
http_router_add_t http_router_put;
http_router_add_t http_router_post;
http_router_add_t http_router_delete;

void http_router_drop(http_router_t router);

/* Serves `router` at `address`, HOST:PORT, and returns at once. */
bool http_server_serve(abi_string_t address, http_router_t router, http_server_t *server, http_error_t *error);

/* Finishes the requests under way and ends the server. */
bool http_server_stop(http_server_t server, http_error_t *error);

/* Forgets the server, which works on. */
void http_server_drop(http_server_t server);

#endif
