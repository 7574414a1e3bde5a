"""An HTTP server in front of a guest: what stands behind the interface `http-server`.

`host` answers the guest, `routes` holds the table that it fills, `listen` takes the address. `server` serves, between
`connection`, which is aiohttp's side, and `dispatch`, which is the runtime's, with `message` between the wire and the
guest; `service` has what does not depend on the guest. The page for users is docs/http.md.

`streaming` serves in the place of `server` where a guest, a component, reads requests and writes responses piece by
piece: `body` and `answer` are what it reads and writes, and `reading` reads bodies of any message.

Nothing is imported here, as a module that starts no server needs neither `server` nor aiohttp.
"""
