"""An HTTP server in front of a guest: what stands behind the interface `http-server`.

`host` answers the guest, `routes` holds the table that it fills, `listen` takes the address. `server` serves, between
`connection`, which is aiohttp's side, and `dispatch`, which is the runtime's, with `message` between the wire and the
guest. The page for users is docs/http.md.
"""

from capabilities.http.access import AccessRecord
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Dispatcher, HandlerFailure
from capabilities.http.host import HttpHost, RunningServer
from capabilities.http.listen import ListenError, bind, share
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService, HttpSettings

__all__ = [
    "AccessRecord",
    "Cors",
    "Dispatcher",
    "HandlerFailure",
    "HttpHost",
    "HttpService",
    "HttpSettings",
    "ListenError",
    "RouteTable",
    "RunningServer",
    "bind",
    "share",
]
