"""Remote: a generator on another machine, and the wire between the two.

In: what any generator takes. Out: the states that the server's generator makes of it. `wire.py` turns
windows and states into bytes and checks what comes in; both sides use it. `client.py` asks a server.
The server itself is the room `serving`, which needs Ray; nothing here does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
